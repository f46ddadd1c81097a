-- depends: 0020_add_step_link_name

-- The branch whose results are the measure: a run is compared with its newest run, and a result with its last green.
ALTER TABLE projects ADD COLUMN main_branch VARCHAR(500) NOT NULL DEFAULT 'main';
