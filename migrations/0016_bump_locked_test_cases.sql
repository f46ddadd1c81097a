-- depends: 0015_create_audit_entries

-- Servers of the version before lock a test case by this function. Those of this version know by a new version of its row
-- that another writer came in between (sql/steps.sql, insert_many): so both make one, while both run.
CREATE OR REPLACE FUNCTION lock_test_case(case_id UUID, callers_project UUID) RETURNS UUID LANGUAGE plpgsql AS $$
DECLARE
    its_project UUID;
BEGIN
    UPDATE test_case_results SET updated_at = updated_at
    WHERE id = $1 AND ($2 IS NULL OR project_id = $2)
    RETURNING project_id INTO its_project;
    IF its_project IS NULL THEN
        RAISE foreign_key_violation USING CONSTRAINT = 'test_case_exists';
    END IF;
    RETURN its_project;
END $$;
