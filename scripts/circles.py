"""Finds circles of modules in a crate: files of which each needs, directly or by others, all the rest.

A module and one below it may need each other: they are one unit in two files. Read are the paths in `use`
declarations and in code (`crate::…`, `super::…`), without comments and without a file's trailing tests. A name
that a module exports again (`pub use`) is needed of the module that it comes from.
"""

import re


def expand(tree):
    """The paths that a `use` tree names: `a::{b, c::d as e}` is `a::b` and `a::c::d as e`."""
    tree = tree.strip()
    at = tree.find("{")
    if at < 0:
        return [tree]
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


def code(text):
    """A file without comments and without its trailing tests."""
    tests = re.search(r"^#\[cfg\(test\)\]\nmod \w+ \{", text, re.M)
    return re.sub(r"//[^\n]*", "", text[: tests.start()] if tests else text)


def named_paths(text):
    for tree in re.findall(r"\buse ((?:crate|super|self)\b[^;]*);", text):
        yield from (path.split(" as ")[0] for path in expand(" ".join(tree.split())))
    yield from re.findall(r"\b(?:crate|super)(?:::\w+)+", re.sub(r"\buse [^;]*;", "", text))


def exports(text):
    """Name: the path that a module has it from. Its children may use a private one too."""
    found = {}
    for tree in re.findall(r"^(?:pub(?:\([^)]*\))? )?use ([^;]*);", text, re.M):
        for path in expand(" ".join(tree.split())):
            path, _, name = path.removesuffix("::self").partition(" as ")
            found[name or path.split("::")[-1]] = path
    return found


def resolve(at, parts, found, exported, hops=8):
    """The deepest module that a path names, from the module `at`; follows names that modules export again."""
    other = at if at in found else None
    for index, part in enumerate(parts):
        if (*at, part) in found:
            at = other = (*at, part)
            continue
        path = exported.get(at, {}).get(part)
        if path and hops:
            begin, rest = start(at, path, found)
            return resolve(begin, [*rest, *parts[index + 1 :]], found, exported, hops - 1) or other
        break
    return other


def start(name, path, found):
    """Where a path begins, and its parts from there on. A path without a start names a child of its module."""
    first, *rest = (part.strip() for part in path.split("::"))
    if first == "crate":
        return (), rest
    if first == "self":
        return name, rest
    if first != "super":
        return name, [first, *rest]
    at = name[:-1]
    while rest and rest[0] == "super":
        at, rest = at[:-1], rest[1:]
    return at, rest


def needs(name, text, found, exported):
    """The modules, neither above nor below this one, that its file names."""
    for path in named_paths(text):
        at, rest = start(name, path, found)
        other = resolve(at, rest, found, exported)
        if other and other != name[: len(other)] and name != other[: len(name)]:
            yield other


def circles(source):
    """The circles of a crate's `src`, each a set of modules' paths (strongly connected components, Tarjan 1972)."""
    found = modules(source)
    texts = {name: code(path.read_text()) for name, path in found.items()}
    exported = {name: exports(text) for name, text in texts.items()}
    for root in ("lib.rs", "main.rs"):
        if (source / root).exists():
            exported.setdefault((), {}).update(exports(code((source / root).read_text())))
    edges = {name: set(needs(name, text, found, exported)) for name, text in texts.items()}
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
