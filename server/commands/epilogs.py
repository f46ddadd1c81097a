"""Notes and examples that `--help` prints below the options of a command."""

REPORTD = """\
Try it in this directory, without any configuration:
  reportd up

Run it on an existing PostgreSQL database:
  export REPORTD_DATABASE_DSN=postgresql://reportd:PASSWORD@localhost/reportd
  export REPORTD_ARTIFACTS_STORAGE_PATH=/var/data/test-artifacts
  reportd migrate
  reportd token create --name ci
  reportd serve

`reportd COMMAND --help` explains a command and its options."""

UP = """\
Runs until Ctrl-C. The first start creates the folder and an admin token in
DIR/admin-token.

example:
  reportd up --port 9000 --demo"""

SERVE = """\
Needs [database] dsn and [artifacts] storage_path in the configuration, and the
tables that `reportd migrate` creates.

example:
  reportd serve --config config.toml --workers 4"""

MIGRATE = """\
Servers of the previous version keep working on the updated tables. When the
last of them has stopped, run `reportd migrate --finish`.

example:
  reportd migrate --config config.toml"""

CONFIG = """\
example:
  reportd config --config config.toml"""

OPENAPI = """\
example:
  reportd openapi > openapi.json"""

CHECK = """\
exit code:
  0  no findings
  1  findings, even if --repair has removed all of them
  2  the check could not start or finish

  With --folder: 0 the folder can be used, 1 it cannot, 2 it could not be tried.

example, for a restored backup:
  reportd check --verify-hashes --grace 0s

example, for a folder on another machine:
  reportd check --folder /srv/reports"""

VERIFY = """\
Creates a run, uploads files, reads everything back and deletes the run. An
uploader's token cannot delete it: then the run stays.

example:
  reportd verify --url https://reports.example --token "$TOKEN\""""

DEMO = """\
Sends through the API, in about a minute. Prints the addresses worth opening. A
second call adds nothing.

example:
  reportd demo
  reportd demo --remove"""

AUDIT = """\
examples:
  reportd audit --action suite_run.deleted --since 7d
  reportd audit --drop-older-than 104w"""

REGROUP = """\
Servers may run meanwhile, but no older ones: they would leave failures without
an error again. Interrupt it at any time; a second run changes only what is left.

example:
  reportd regroup"""

TEST_WEBHOOK = """\
Needs no server. Exit code 1 when a test was not delivered.

example:
  reportd webhook test chat.example --config config.toml"""

CREATE_TOKEN = """\
example:
  reportd token create --name ci --project shop --expires 90d"""  # noqa: S105 - no secret

ROTATE_TOKEN = """\
example, for a token that leaked:
  reportd token rotate ci --overlap 0h"""  # noqa: S105

ADD_USER = """\
A password has at least 12 characters.

example: anna may read all projects, and administer the project shop
  reportd user add anna --role viewer --role shop=admin"""

SET_ROLES = """\
example:
  reportd user set-roles anna --role uploader"""


IMPORT = """\
Everything is checked against the manifest of the archive first. Then all of it
is stored, or nothing. A run that is there already is left as it is.

example:
  reportd import nightly.zip --project web"""

OPEN = """\
Everything is compared with the manifest of the archive first. index.html in an
unpacked archive shows the same, without the counted difference of two images.

example:
  reportd open nightly.zip"""

BACKUP = """\
Servers go on working. Files are linked if DIR is on the same file system,
otherwise copied, each once for all backups in DIR. Until the end, files of
deleted artifacts stay on disk.

example:
  reportd backup /srv/backup/reportd --config config.toml"""

RESTORE = """\
Stop the servers first. The dump is compared with the manifest, the files are
put in place, the database is restored in one transaction, and `reportd check
--verify-hashes` looks at the result. Files that are not in the backup stay.

exit code:
  0  restored, and everything that the backup has is there
  1  failed, or the check found something

example, for a new machine:
  reportd restore /srv/backup/reportd --config config.toml"""
