-- name: list_due
-- Lists the codebases too large for exact search whose words were never counted, or when they had a fifth fewer chunks or
-- more. The entry of the empty word, which no chunk has, says how many chunks there were.
SELECT large.codebase_key, large.n AS chunk_count
FROM (SELECT codebase_key, count(*) AS n FROM chunk_words GROUP BY codebase_key HAVING count(*) > $1::bigint) large
LEFT JOIN word_counts counted ON counted.codebase_key = large.codebase_key AND counted.word = ''
WHERE counted.chunk_count IS NULL OR large.n > counted.chunk_count * 1.2 OR large.n < counted.chunk_count / 1.2
ORDER BY large.codebase_key

-- name: forget
-- Removes a codebase's counts.
DELETE FROM word_counts WHERE codebase_key = $1

-- name: count
-- Writes down the common words of a codebase, and how many chunks it has; what another gateway wrote meanwhile stays.
INSERT INTO word_counts (codebase_key, word, chunk_count)
SELECT $1::bigint, word, ndoc
FROM ts_stat(format('SELECT words FROM chunk_words WHERE codebase_key = %s', $1::bigint))
WHERE ndoc >= $2::bigint
UNION ALL
SELECT $1::bigint, '', $3::bigint
ON CONFLICT DO NOTHING
