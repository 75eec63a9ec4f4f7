"""What a `.wd-test` file of workerd gives the test in a module: its flags of compatibility and its bindings."""

import json
import re


def settings(root, file):
    for path in sorted(root.glob("*.wd-test")):
        text = path.read_text()
        if f'embed "{file}"' in text:
            break
    else:
        return {"flags": [], "bindings": [], "env": {}, "itself": []}
    after = text[text.index(f'embed "{file}"'):]
    flags = re.search(r"compatibilityFlags\s*=\s*\[([^\]]*)\]", after)
    service = re.findall(r'name\s*=\s*"([^"]+)"\s*,\s*worker\b', text[: text.index(f'embed "{file}"')])
    env = {}
    for name, kind, value in re.findall(r'\(\s*name\s*=\s*"([A-Za-z_]\w*)"\s*,\s*(text|json)\s*=\s*"((?:[^"\\]|\\.)*)"', text):
        try:
            value = json.loads(f'"{value}"')
            env[name] = json.loads(value) if kind == "json" else value
        except ValueError:
            continue  # no JSON: the test that reads it is left out as one without its binding
    services = re.findall(r'\(\s*name\s*=\s*"([^"]+)"\s*,\s*service\s*=\s*"([^"]+)"\s*\)', text)
    itself = [name for name, to in services if service and to == service[-1] and re.fullmatch(r"[A-Za-z_]\w*", name)]
    others = re.findall(r'\(\s*name\s*=\s*"([^"]+)"\s*,\s*(?!text|json|worker|esModule)\w+\s*=?', text)
    return {
        "flags": re.findall(r'"([^"]+)"', flags.group(1)) if flags else [],
        "bindings": sorted(set(others) - set(env) - set(itself)),
        "env": env,
        "itself": itself,
    }
