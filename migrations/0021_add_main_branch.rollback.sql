ALTER TABLE projects DROP COLUMN main_branch;
