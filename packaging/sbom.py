"""The bill of materials of the programs and libraries, in CycloneDX, from what Cargo resolves.

It has each crate that is compiled into them, with licence and SHA-256 as in Cargo.lock, and which needs which. Crates
that only run at build time, such as procedural macros, have the scope `excluded`.
"""

import json
import os
import subprocess
import tomllib
import uuid
from pathlib import Path
from typing import Any

# The folders of the packages that artefacts are made of: the program, and the libraries for C.
SHIPPED = ["busctl", "shmbus/capi", "shmbus/vdeplug", "memif/capi", "memif/capi/v3"]


def bill(tree: Path, name: str, version: str, time: str, target: str) -> dict[str, Any]:
    """Returns the bill of a source tree for one target, dated with an ISO 8601 time."""
    command = [os.environ.get("CARGO", "cargo"), "metadata", "--format-version=1", "--locked", f"--filter-platform={target}"]
    metadata = json.loads(subprocess.run(command, cwd=tree, check=True, stdout=subprocess.PIPE).stdout)
    packages = {package["id"]: package for package in metadata["packages"]}
    nodes = {node["id"]: node for node in metadata["resolve"]["nodes"]}
    manifests = {Path(package["manifest_path"]): identity for identity, package in packages.items()}
    roots = [manifests[tree / folder / "Cargo.toml"] for folder in SHIPPED]
    linked = reachable(roots, packages, nodes, at_run_time=True)
    all_used = reachable(roots, packages, nodes, at_run_time=False)

    locked = tomllib.loads((tree / "Cargo.lock").read_text())["package"]
    checksums = {(entry["name"], entry["version"]): entry.get("checksum") for entry in locked}

    def component(identity: str) -> dict[str, Any]:
        package = packages[identity]
        checksum = checksums.get((package["name"], package["version"]))
        found: dict[str, Any] = {
            "type": "application" if any("bin" in made["kind"] for made in package["targets"]) else "library",
            "bom-ref": reference(package),
            "name": package["name"],
            "version": package["version"],
            "scope": "required" if identity in linked else "excluded",
            "purl": reference(package),
        }
        if package["description"]:
            found["description"] = package["description"].strip()
        if checksum:
            found["hashes"] = [{"alg": "SHA-256", "content": checksum}]
        if package["license"]:
            # SPDX has no slash, which Cargo once took for OR.
            found["licenses"] = [{"expression": package["license"].replace("/", " OR ")}]
        if package["repository"]:
            found["externalReferences"] = [{"type": "vcs", "url": package["repository"]}]
        return found

    def needs(identity: str) -> list[str]:
        deps = {dep["pkg"] for dep in nodes[identity]["deps"] if dep["pkg"] in all_used and kinds(dep) - {"dev"}}
        return sorted(reference(packages[dep]) for dep in deps)

    used = sorted(all_used, key=lambda identity: (packages[identity]["name"], packages[identity]["version"]))
    whole = f"{name}@{version}"
    return {
        "$schema": "http://cyclonedx.org/schema/bom-1.6.schema.json",
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "serialNumber": f"urn:uuid:{uuid.uuid5(uuid.NAMESPACE_URL, f'{whole} {time} {target}')}",
        "version": 1,
        "metadata": {
            "timestamp": time,
            "component": {"type": "application", "bom-ref": whole, "name": name, "version": version},
            "properties": [{"name": "target", "value": target}],
        },
        "components": [component(identity) for identity in used],
        "dependencies": [
            {"ref": whole, "dependsOn": sorted(reference(packages[root]) for root in roots)},
            *({"ref": reference(packages[identity]), "dependsOn": needs(identity)} for identity in used),
        ],
    }


def kinds(dep: dict[str, Any]) -> set[str]:
    """Returns what a package needs another for: `normal`, `build` or `dev`."""
    return {kind["kind"] or "normal" for kind in dep["dep_kinds"]}


def reference(package: dict[str, Any]) -> str:
    """Returns the package URL of a crate."""
    return f"pkg:cargo/{package['name']}@{package['version']}"


def reachable(roots: list[str], packages: dict[str, Any], nodes: dict[str, Any], at_run_time: bool) -> set[str]:
    """Returns what packages need, themselves included: all of it, or only what is linked."""
    wanted = {"normal"} if at_run_time else {"normal", "build"}
    seen: set[str] = set()
    pending = list(roots)
    while pending:
        identity = pending.pop()
        is_macro = any("proc-macro" in target["kind"] for target in packages[identity]["targets"])
        if identity not in seen and not (at_run_time and is_macro):
            seen.add(identity)
            pending += [dep["pkg"] for dep in nodes[identity]["deps"] if kinds(dep) & wanted]
    return seen
