"""The manifests of deploy/: the kustomize folders and the Helm chart are rendered (the chart by Helm's own engine, in the package
`helm-python-sdk`), checked against the API of several versions of Kubernetes by `kubernetes-validate`, and compared with each
other. The configurations in them are checked by `stockade check`."""

import shutil
import subprocess
import tempfile
from pathlib import Path

import yaml

from docs import ROOT, Pages

DEPLOY = ROOT / "deploy"
VERSIONS = ["1.30", "1.31", "1.32", "1.33", "1.34"]
# Ways to use the chart.
USES = {
    "defaults": {},
    "container": {"isolation": "container", "appArmorProfile": "stockade-container"},
    "autoscaling": {"persistence": {"enabled": False}, "autoscaling": {"enabled": True}, "secrets": {"pepper": "x" * 40}},
    "everything": {
        "imagePullSecrets": [{"name": "registry"}], "env": [{"name": "A", "value": "b"}], "existingSecret": "mine",
        "service": {"type": "LoadBalancer"}, "persistence": {"storageClass": "fast"}, "podAnnotations": {"a": "b"},
        "networkPolicy": {"egress": [{"to": [{"ipBlock": {"cidr": "10.0.0.5/32"}}], "ports": [{"port": 5432}]}]},
        "nodeSelector": {"a": "b"}, "tolerations": [{"operator": "Exists"}], "code": {"other-site": {"index.ts": "export default {};\n"}},
    },
}
# What the chart must refuse, and a word of its answer.
REFUSED = {
    "a level that does not exist": ({"isolation": "vm"}, "isolation"),
    "an unknown key": ({"isolatoin": "process"}, "isolatoin"),
    "autoscaling with state": ({"autoscaling": {"enabled": True}}, "takes its state with it"),
}


def server(quick):
    return Pages


def kustomize(folder):
    """The objects of a kustomize folder."""
    tool = shutil.which("kustomize")
    command = [tool, "build"] if tool else ["kubectl", "kustomize"]
    done = subprocess.run([*command, str(DEPLOY / "kubernetes" / folder)], capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(done.stderr.strip())
    return [one for one in yaml.safe_load_all(done.stdout) if one]


def chart(values, name="stockade"):
    """The objects of the chart."""
    import helm_python
    with helm_python.Chart.load(str(DEPLOY / "helm")) as loaded:
        loaded.validate_schema(values)
        rendered = loaded.render(values, name=name, namespace="stockade")
    objects = []
    for path, text in rendered.items():
        if path.endswith((".yaml", ".yml")):
            objects += [one for one in yaml.safe_load_all(text) if one]
    return objects


def invalid(objects):
    """What is wrong with objects, by the schemas of Kubernetes."""
    import kubernetes_validate
    wrong = []
    for one in objects:
        for version in VERSIONS:
            try:
                kubernetes_validate.validate(one, version, strict=True)
            except Exception as error:
                wrong.append(f"{one['kind']} in {version}: {str(error)[:300]}")
    return "\n".join(wrong) or None


def unrestricted(objects):
    """What of the pods breaks the Pod Security Standard `restricted`, https://kubernetes.io/docs/concepts/security/pod-security-standards/."""
    wrong = []
    for one in objects:
        spec = one.get("spec", {}).get("template", {}).get("spec")
        if not spec:
            continue
        pod = spec.get("securityContext", {})
        wrong += [key for key in ("hostNetwork", "hostPID", "hostIPC") if spec.get(key)]
        kinds = {key for volume in spec.get("volumes", []) for key in volume if key != "name"}
        wrong += kinds - {"configMap", "csi", "downwardAPI", "emptyDir", "ephemeral", "persistentVolumeClaim", "projected", "secret"}
        for container in [*spec["containers"], *spec.get("initContainers", [])]:
            own = container.get("securityContext", {})
            both = {**pod, **own}
            wrong += [key for key, fits in {
                "privileged": not own.get("privileged"),
                "allowPrivilegeEscalation": own.get("allowPrivilegeEscalation") is False,
                "runAsNonRoot": both.get("runAsNonRoot") is True,
                "runAsUser": both.get("runAsUser") != 0,
                "seccompProfile": both.get("seccompProfile", {}).get("type") in ("RuntimeDefault", "Localhost"),
                "appArmorProfile": both.get("appArmorProfile", {}).get("type") in (None, "RuntimeDefault", "Localhost"),
                "capabilities.drop": "ALL" in own.get("capabilities", {}).get("drop", []),
                "capabilities.add": set(own.get("capabilities", {}).get("add", [])) <= {"NET_BIND_SERVICE"},
                "hostPort": not any(port.get("hostPort") for port in container.get("ports", [])),
            }.items() if not fits]
        return f"not `restricted`: {wrong}" if wrong else None
    return "there is no pod"


def configuration(objects, binary):
    """What `stockade check` says of the configuration, if it is not right."""
    for one in objects:
        text = (one.get("data") or {}).get("stockade.yaml")
        if one["kind"] == "ConfigMap" and text:
            with tempfile.TemporaryDirectory() as folder:
                path = Path(folder) / "stockade.yaml"
                path.write_text(text)
                done = subprocess.run([str(binary), "check", str(path)], capture_output=True, text=True)
                return (done.stdout + done.stderr) if done.returncode else None
    return "there is no stockade.yaml"


def essence(objects):
    """Objects by kind, without names and labels that differ by the tool."""
    found = {}
    for one in objects:
        spec = one.get("spec", {})
        for key in ("selector", "podSelector"):
            spec.pop(key, None)
        for claim in spec.get("volumeClaimTemplates", []):
            claim["metadata"].pop("labels", None)
        template = spec.get("template", {})
        template.pop("metadata", None)
        pod = template.get("spec", {})
        for volume in pod.get("volumes", []):
            if "configMap" in volume:
                volume["configMap"]["name"] = volume["name"]
        pod.get("volumes", []).sort(key=lambda volume: volume["name"])
        for container in pod.get("containers", []):
            container.pop("imagePullPolicy", None)
            container["volumeMounts"].sort(key=lambda mount: mount["name"])
        if one["kind"] == "Service":
            spec.setdefault("type", "ClusterIP")
        data = {name: yaml.safe_load(text) if name.endswith(".yaml") else text for name, text in (one.get("data") or {}).items()}
        kind = one["kind"] + (" " + min(data) if data else "")
        found[kind] = {"spec": spec, "data": data}
    # A chart is installed into a namespace that is there.
    found.pop("Namespace", None)
    return found


def differences(one, other, path=""):
    if isinstance(one, dict) and isinstance(other, dict):
        return [line for key in sorted({*one, *other}) for line in differences(one.get(key), other.get(key), f"{path}.{key}")]
    return [] if one == other else [f"{path}: kustomize has {one!r}, the chart {other!r}"]


def checks(pages):
    named = []
    if shutil.which("kubectl") or shutil.which("kustomize"):
        for folder in ("base", "overlays/container"):
            named.append((f"kustomize {folder} is valid", lambda folder=folder: invalid(kustomize(folder))))
            named.append((f"kustomize {folder} fits the Pod Security Standard `restricted`",
                          lambda folder=folder: unrestricted(kustomize(folder))))
            named.append((f"kustomize {folder} has a configuration that is right",
                          lambda folder=folder: configuration(kustomize(folder), pages.binary)))
        for folder, values in (("base", {}), ("overlays/container", {"isolation": "container"})):
            named.append((f"kustomize {folder} and the chart agree", lambda folder=folder, values=values: "\n".join(
                differences(essence(kustomize(folder)), essence(chart(values)))) or None))
    else:
        named.append(("kustomize", lambda: (None, "not here: neither kubectl nor kustomize is installed")))

    def lint():
        import helm_python
        found = helm_python.lint(str(DEPLOY / "helm"))
        # 1 is a hint, 2 a warning, 3 an error.
        wrong = [one["error"] for one in found["messages"] if one["severity"] > 1] + found["errors"]
        return "\n".join(map(str, wrong)) or None

    named.append(("helm lint", lint))
    for name, values in USES.items():
        named.append((f"helm template, {name}, is valid", lambda values=values: invalid(chart(values))))
        named.append((f"helm template, {name}, fits the Pod Security Standard `restricted`",
                      lambda values=values: unrestricted(chart(values))))
        named.append((f"helm template, {name}, has a configuration that is right",
                      lambda values=values: configuration(chart(values), pages.binary)))

    def refused(values, word):
        try:
            chart(values)
        except Exception as error:
            return None if word in str(error) else str(error)
        return "it is rendered"

    for name, (values, word) in REFUSED.items():
        named.append((f"the chart refuses {name}", lambda values=values, word=word: refused(values, word)))
    return named
