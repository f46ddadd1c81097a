-- name: project_of
-- No row when the link does not exist or is not in the caller's project ($2; NULL is every project).
SELECT project_id FROM evidence_links WHERE id = $1 AND ($2::uuid IS NULL OR project_id = $2)

-- name: hold_maker
-- Before `create`: locks the token or person that makes the link. A revocation, which changes that row, then comes
-- either first, and the link is refused, or after the link's commit, and ends it.
WITH token AS (SELECT FROM tokens WHERE id = $1 FOR SHARE), person AS (SELECT FROM users WHERE id = $1 FOR SHARE)
SELECT (SELECT count(*) FROM token) + (SELECT count(*) FROM person)

-- name: create
-- One of $2, $3 and $4 is the target. The link gets the target's project. No row when the target was deleted.
INSERT INTO evidence_links (id, project_id, suite_run_id, test_case_result_id, artifact_id, caller_id, created_by,
                            note, expires_at)
SELECT $1, thing.project_id, $2, $3, $4, $5, $6, $7, $8
FROM (SELECT project_id FROM suite_runs WHERE id = $2
      UNION ALL
      SELECT project_id FROM test_case_results WHERE id = $3
      UNION ALL
      SELECT c.project_id
      FROM test_artifacts a JOIN test_case_results c ON c.id = a.test_case_result_id WHERE a.id = $4) AS thing
RETURNING id, suite_run_id, test_case_result_id, artifact_id, created_by, created_at, expires_at, revoked_at, note,
          opened, downloads, last_used_at, project_id

-- name: page
-- Newest first. Ids sort by time (UUIDv7), so the last id of a page is the cursor ($2) of the next page. $6 selects the
-- links that `open` accepts (true) or refuses (false); $7 is its $4.
SELECT id, suite_run_id, test_case_result_id, artifact_id, created_by, created_at, expires_at, revoked_at, note,
       opened, downloads, last_used_at
FROM evidence_links l
WHERE ($1::uuid IS NULL OR project_id = $1)
  AND ($2::uuid IS NULL OR id < $2)
  AND ($3::uuid IS NULL OR suite_run_id = $3)
  AND ($4::uuid IS NULL OR test_case_result_id = $4)
  AND ($5::uuid IS NULL OR artifact_id = $5)
  AND ($6::bool IS NULL OR $6 = (
      revoked_at IS NULL AND expires_at > CURRENT_TIMESTAMP AND (EXISTS (SELECT FROM (
          SELECT t.role, t.project_id FROM tokens t
          WHERE t.id = l.caller_id AND t.revoked_at IS NULL
            AND (t.expires_at IS NULL OR t.expires_at > CURRENT_TIMESTAMP)
          UNION ALL
          SELECT r.role, r.project_id FROM users u JOIN user_roles r ON r.user_id = u.id
          WHERE u.id = l.caller_id AND u.disabled_at IS NULL
      ) AS maker WHERE maker.role IN ('uploader', 'admin') AND COALESCE(maker.project_id, l.project_id) = l.project_id)
      OR $7 AND caller_id = '00000000-0000-0000-0000-000000000000')))
ORDER BY id DESC
LIMIT $8

-- name: open_among
-- Which of these links `open` accepts. $2: also those that were made without a token.
SELECT id FROM evidence_links l
WHERE id = ANY($1::uuid[])
  AND revoked_at IS NULL AND expires_at > CURRENT_TIMESTAMP AND (EXISTS (SELECT FROM (
      SELECT t.role, t.project_id FROM tokens t
      WHERE t.id = l.caller_id AND t.revoked_at IS NULL
        AND (t.expires_at IS NULL OR t.expires_at > CURRENT_TIMESTAMP)
      UNION ALL
      SELECT r.role, r.project_id FROM users u JOIN user_roles r ON r.user_id = u.id
      WHERE u.id = l.caller_id AND u.disabled_at IS NULL
  ) AS maker WHERE maker.role IN ('uploader', 'admin') AND COALESCE(maker.project_id, l.project_id) = l.project_id)
  OR $2 AND caller_id = '00000000-0000-0000-0000-000000000000')

-- name: by_id
SELECT id, suite_run_id, test_case_result_id, artifact_id, created_by, created_at, expires_at, revoked_at, note,
       opened, downloads, last_used_at
FROM evidence_links WHERE id = $1 AND ($2::uuid[] IS NULL OR project_id = ANY($2))

-- name: things
-- What links show, by name.
SELECT l.id, p.name AS project, coalesce(r.name, c.name, a.file_name) AS thing
FROM evidence_links l
JOIN projects p ON p.id = l.project_id
LEFT JOIN suite_runs r ON r.id = l.suite_run_id
LEFT JOIN test_case_results c ON c.id = l.test_case_result_id
LEFT JOIN test_artifacts a ON a.id = l.artifact_id
WHERE l.id = ANY($1::uuid[])

-- name: revoke
-- $3 is the caller who must have made the link; NULL accepts any. A second revocation does not change revoked_at.
-- `ended` is true only for the first one, so that only the first one writes an audit entry.
UPDATE evidence_links l SET revoked_at = COALESCE(l.revoked_at, CURRENT_TIMESTAMP)
FROM (SELECT id, revoked_at IS NULL AS ended FROM evidence_links
      WHERE id = $1 AND ($2::uuid IS NULL OR project_id = $2) AND ($3::uuid IS NULL OR caller_id = $3)
      FOR UPDATE) AS was
WHERE l.id = was.id
RETURNING l.project_id, l.note, was.ended

-- name: open
-- Checks the link and counts its use: $2 and $3 are added; with 0 and 0, for HEAD, nothing is written. No row when the
-- link has ended. A link ends with the right to make it: it works only while its maker is a valid token or an enabled
-- person, and uploader or admin in the link's project. Otherwise those who lost that right could still read through it.
-- What this condition cannot see later, such as a new password, sets revoked_at: end_all, end_without_role.
-- Links made without a token work only while the server needs none ($4).
WITH link AS (
    SELECT l.id, l.project_id, l.suite_run_id, l.test_case_result_id, l.artifact_id
    FROM evidence_links l
    WHERE l.id = $1 AND l.revoked_at IS NULL AND l.expires_at > CURRENT_TIMESTAMP AND (EXISTS (SELECT FROM (
          SELECT t.role, t.project_id FROM tokens t
          WHERE t.id = l.caller_id AND t.revoked_at IS NULL
            AND (t.expires_at IS NULL OR t.expires_at > CURRENT_TIMESTAMP)
          UNION ALL
          SELECT r.role, r.project_id FROM users u JOIN user_roles r ON r.user_id = u.id
          WHERE u.id = l.caller_id AND u.disabled_at IS NULL
      ) AS maker WHERE maker.role IN ('uploader', 'admin') AND COALESCE(maker.project_id, l.project_id) = l.project_id)
      OR $4 AND l.caller_id = '00000000-0000-0000-0000-000000000000')
), counted AS (
    UPDATE evidence_links l
    SET opened = opened + $2, downloads = downloads + $3, last_used_at = CURRENT_TIMESTAMP
    FROM link WHERE l.id = link.id AND ($2 > 0 OR $3 > 0)
)
SELECT project_id, COALESCE(suite_run_id, test_case_result_id, artifact_id) AS thing_id,
       CASE WHEN suite_run_id IS NOT NULL THEN 'suite_run' WHEN test_case_result_id IS NOT NULL
            THEN 'test_case_result' ELSE 'artifact' END AS kind
FROM link

-- name: end_all
-- Ends all links that a token or person ($1) made: when it is revoked, disabled, gets another password or is rotated
-- without overlap. The secret may have leaked, and an attacker may have made some of the links. Links stay ended when a
-- person is enabled again. Its own statement after the row of the maker is locked, so that it sees every link (see
-- hold_maker).
UPDATE evidence_links SET revoked_at = CURRENT_TIMESTAMP WHERE caller_id = $1 AND revoked_at IS NULL

-- name: end_without_role
-- After a change of a person's roles: ends the links in projects in which the person is no longer uploader or admin.
UPDATE evidence_links l SET revoked_at = CURRENT_TIMESTAMP
WHERE l.caller_id = $1 AND l.revoked_at IS NULL
  AND NOT EXISTS (SELECT FROM user_roles r
                  WHERE r.user_id = l.caller_id AND r.role IN ('uploader', 'admin')
                    AND COALESCE(r.project_id, l.project_id) = l.project_id)

-- name: covered_case
-- A row if the link's target is this test case result, or the run that it belongs to.
SELECT 1
FROM evidence_links l JOIN test_case_results c ON c.suite_run_id = l.suite_run_id OR c.id = l.test_case_result_id
WHERE l.id = $1 AND c.id = $2

-- name: covered_artifact
-- The columns for a download or a thumbnail. A link to an artifact covers that artifact. A link to a run or test case result covers
-- the images below it, but no other files.
SELECT a.storage_path, a.file_name, a.file_size, a.mime_type,
       coalesce(a.text_encoding, CASE WHEN a.mime_type ~ '^text/|/json$' THEN 'utf-8' END) AS text_encoding, a.checksum,
       c.project_id
FROM test_artifacts a
JOIN test_case_results c ON c.id = a.test_case_result_id
JOIN evidence_links l ON l.id = $1
WHERE a.id = $2
  AND (a.id = l.artifact_id
       OR (starts_with(a.mime_type, 'image/') AND (c.id = l.test_case_result_id OR c.suite_run_id = l.suite_run_id)))

-- name: images_among
SELECT id FROM test_artifacts
WHERE test_case_result_id = $1 AND id = ANY($2::uuid[]) AND starts_with(mime_type, 'image/')
