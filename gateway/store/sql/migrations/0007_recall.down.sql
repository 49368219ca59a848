DROP TABLE recall_checks;
