"""Finds circles of modules in a crate: files of which each needs, directly or by others, all the rest.

A module and one below it may need each other: they are one unit in two files. Read are the paths in `use`
declarations and in code (`crate::…`, `super::…`), without comments and without a file's trailing tests.
"""

import re


def expand(tree):
    """The paths that a `use` tree names: `a::{b, c::d}` is `a::b` and `a::c::d`."""
    tree = tree.strip()
    at = tree.find("{")
    if at < 0:
        return [tree.split(" as ")[0].strip()]
    depth, begin, parts = 0, at + 1, []
    for index in range(at, len(tree)):
        if tree[index] == "{":
            depth += 1
        elif tree[index] == "}":
            depth -= 1
            if depth == 0:
                parts.append(tree[begin:index])
                break
        elif tree[index] == "," and depth == 1:
            parts.append(tree[begin:index])
            begin = index + 1
    return [tree[:at] + path for part in parts if part.strip() for path in expand(part)]


def modules(source):
    """Module: its file; a module is the tuple of its names below the crate."""
    found = {}
    for path in source.rglob("*.rs"):
        name = list(path.relative_to(source).with_suffix("").parts)
        if "tests" in name or name[-1] in ("lib", "main"):
            continue
        if name[-1] == "mod":
            name.pop()
        found[tuple(name)] = path
    return found


def named_paths(text):
    tests = re.search(r"^#\[cfg\(test\)\]\nmod \w+ \{", text, re.M)
    text = re.sub(r"//[^\n]*", "", text[: tests.start()] if tests else text)
    for tree in re.findall(r"\buse ((?:crate|super|self)\b[^;]*);", text):
        yield from expand(" ".join(tree.split()))
    yield from re.findall(r"\b(?:crate|super)(?:::\w+)+", re.sub(r"\buse [^;]*;", "", text))


def needs(name, text, found):
    """The modules, neither above nor below this one, that its file names."""
    for path in named_paths(text):
        first, *rest = (part.strip() for part in path.split("::"))
        at = name if first == "self" else () if first == "crate" else name[:-1]
        while first == "super" and rest and rest[0] == "super":
            at, rest = at[:-1], rest[1:]
        other = at if at in found else None
        for part in rest:
            if (*at, part) not in found:
                break
            at = other = (*at, part)
        if other and other != name[: len(other)] and name != other[: len(name)]:
            yield other


def circles(source):
    """The circles of a crate's `src`, each a set of modules' paths (strongly connected components, Tarjan 1972)."""
    found = modules(source)
    edges = {name: set(needs(name, path.read_text(), found)) for name, path in found.items()}
    index, low, stack, result = {}, {}, [], []

    def visit(one):
        index[one] = low[one] = len(index)
        stack.append(one)
        for other in edges[one]:
            if other not in index:
                visit(other)
                low[one] = min(low[one], low[other])
            elif other in stack:
                low[one] = min(low[one], index[other])
        if low[one] == index[one]:
            circle = set()
            while one not in circle:
                circle.add(stack.pop())
            if len(circle) > 1:
                result.append({"::".join(name) for name in circle})

    for name in edges:
        if name not in index:
            visit(name)
    return result
