"""Code of a language model, in a session whose state lives between its steps, with asynchronous tools.

    pip install stockade && python agent.py
"""

import asyncio
from typing import TypedDict

from stockade import AsyncSession, ConsoleLine

# What a model would answer, step by step.
STEPS = [
    "const pages = await Promise.all(['tea', 'milk'].map((topic) => tools.search(topic)));",
    "const words = pages.flatMap((page) => page.text.split(' ')); console.log(words.length, 'words'); words.length",
    "pages.map((page) => page.title.toUpperCase())",
]


class Page(TypedDict):
    title: str
    text: str


async def search(topic: str) -> Page:
    """Finds a page about a topic."""
    await asyncio.sleep(0)  # here a program would ask a database
    return {"title": topic, "text": f"all about {topic}"}


def show(line: ConsoleLine) -> None:
    print("  ", line.level, line.text)


async def main() -> None:
    async with AsyncSession(memory="64mb", timeout="5s", tools={"search": search}) as session:
        for step in STEPS:
            outcome = await session.run(step, on_console=show)
            print(outcome.result)


asyncio.run(main())
