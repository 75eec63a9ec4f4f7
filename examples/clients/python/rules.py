"""Rules that customers wrote, run in containers: tools of this program, limits, and errors with the customer's own line.

    pip install stockade && python rules.py
"""

from stockade import GuestError, Sandbox

STOCK = {"tea": 12, "milk": 0}


def stock(*, good: str) -> int:
    """How many of a good there are."""
    if good not in STOCK:
        raise LookupError(f"there is no {good}")
    return STOCK[good]


RULES = {
    "how many to order": """
        const wanted: Record<string, number> = { tea: 20, milk: 4 };
        const order: Record<string, number> = {};
        for (const [good, count] of Object.entries(wanted)) {
          order[good] = count - (await tools.stock({ good }));
          console.log(good, "is", order[good], "short");
        }
        return order;""",
    "a rule with an error": 'const tea = await tools.stock({ good: "tea" });\ntea.toUpperCase()',
    "an endless rule": "for (;;);",
    "a curious rule": 'await fetch("http://169.254.169.254/").catch(() => "refused")',
}

with Sandbox(memory="64mb", cpu="200ms", tools={"stock": stock}) as sandbox:
    for name, code in RULES.items():
        try:
            outcome = sandbox.run(code)
        except GuestError as error:
            place = f" in line {error.line}: {error.message}" if error.kind == "thrown" else ""
            print(f"{name}: {error.kind}{place}")
            continue
        print(f"{name}: {outcome.result}")
        for line in outcome.console:
            print("  ", line.text)
        for host in outcome.refused:
            print("   tried to reach", host.host)
