"""Package metadata. Dataflow builds its worker package from this file."""

from pathlib import Path

from setuptools import find_packages, setup

REQUIREMENTS = Path(__file__).parent / "requirements.in"


def runtime_requirements() -> list[str]:
    """Return the requirements of requirements.in without their comments."""
    lines = REQUIREMENTS.read_text(encoding="utf-8").splitlines()
    requirements = (line.partition("#")[0].strip() for line in lines)
    return [requirement for requirement in requirements if requirement]


setup(
    name="estore-analytics",
    version="0.1.0",
    description=(
        "Columnar Apache Beam job: e-commerce clickstream CSV in; "
        "sessions, RFM, funnel and churn tables out."
    ),
    license_expression="Apache-2.0",
    python_requires=">=3.11,<3.14",
    packages=find_packages(include=["pipelines", "pipelines.*", "transforms", "transforms.*"]),
    package_data={"": ["**/*.sql", "**/*.html.j2", "**/*.css", "**/*.js"]},
    install_requires=runtime_requirements(),
    entry_points={
        "console_scripts": ["customer-analytics = pipelines.console:command"],
    },
    classifiers=[
        "Environment :: Console",
        "Operating System :: POSIX",
        "Programming Language :: Python :: 3.11",
        "Programming Language :: Python :: 3.12",
        "Programming Language :: Python :: 3.13",
        "Topic :: Scientific/Engineering :: Information Analysis",
    ],
)
