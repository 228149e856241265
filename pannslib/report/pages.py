"""The templates of the pages that readers open."""

from functools import cache
from pathlib import Path

import jinja2


@cache
def _environment() -> jinja2.Environment:
    loader = jinja2.FileSystemLoader(Path(__file__).parent)
    return jinja2.Environment(loader=loader, autoescape=True, trim_blocks=True)


def rendered(template: str, **values) -> str:
    """A template of this folder with its values put in; everything is escaped that it doesn't mark as safe."""
    return _environment().get_template(template).render(**values)
