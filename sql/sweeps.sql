-- name: take
-- A row if no process began to sweep within the last $1 seconds: then it is this process's turn. Of several that ask at
-- once, the first one gets the row; the others wait for it, and then see the new time.
INSERT INTO sweeps DEFAULT VALUES ON CONFLICT (one) DO UPDATE SET began_at = CURRENT_TIMESTAMP
WHERE sweeps.began_at <= CURRENT_TIMESTAMP - make_interval(secs => $1)
RETURNING began_at
