-- Filters: counting the chunks of a language or a kind read every chunk of a codebase, contents and all.

CREATE INDEX chunks_language_kind ON chunks (codebase_key, language, kind);
