CREATE OR REPLACE FUNCTION lock_test_case(case_id UUID, callers_project UUID) RETURNS UUID LANGUAGE plpgsql AS $$
DECLARE
    its_project UUID;
BEGIN
    SELECT project_id INTO its_project FROM test_case_results
    WHERE id = $1 AND ($2 IS NULL OR project_id = $2)
    FOR NO KEY UPDATE;
    IF its_project IS NULL THEN
        RAISE foreign_key_violation USING CONSTRAINT = 'test_case_exists';
    END IF;
    RETURN its_project;
END $$;
