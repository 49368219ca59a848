DROP TABLE training_publications, training_runs, training_schedules;
