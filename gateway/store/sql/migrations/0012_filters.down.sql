DROP INDEX chunks_language_kind;
