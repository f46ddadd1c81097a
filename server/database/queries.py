"""Named queries from sql/: `SQL.steps.for_case` is the text of that query in sql/steps.sql."""

import re
from pathlib import Path
from types import SimpleNamespace

_SERVER = Path(__file__).parent.parent


def data_folder(name: str) -> Path:
    """The folder `sql` or `migrations`: inside the installed package, or next to it in a checkout."""
    inside = _SERVER / name
    return inside if inside.is_dir() else _SERVER.parent / name


def load_sql(folder: Path | None = None) -> SimpleNamespace:
    """Every `-- name: x` block of every file, as text: `sql.steps.for_case`.

    Raises ValueError for text before the first name or a name used twice.
    """
    sql = SimpleNamespace()
    for path in sorted((folder or data_folder("sql")).glob("*.sql")):
        preamble, *parts = re.split(r"^-- name: (\w+)\s*$", path.read_text("utf-8"), flags=re.MULTILINE)
        names, texts = parts[::2], [text.strip() for text in parts[1::2]]
        if re.search(r"^(?!--)\S", preamble, flags=re.MULTILINE) or len(set(names)) != len(names):
            raise ValueError(f"{path.name}: text before the first name, or a name used twice")
        setattr(sql, path.stem, SimpleNamespace(**dict(zip(names, texts, strict=True))))
    return sql


SQL = load_sql()
