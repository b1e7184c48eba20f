"""rootfs.py OUT NAME FILE:FOLDER...: the root file system of an image without a distribution.

It holds the files, stripped; every shared library that they load, from the packages of the machine
where this runs; what the C library and TLS look up (users, names, certificates); and, of every
package that something was taken from, its licence, its record as scanners know it
(/var/lib/dpkg/status.d) and an entry in the SBOM (/usr/share/sbom/NAME.spdx.json, SPDX 2.3). Libraries
that no package owns, as CUDA's where it was installed by hand, stand in the SBOM as files.
"""
import hashlib
import json
import os
import pathlib
import shutil
import subprocess
import sys

USER_ID = 65532
LIBRARIES = "/usr/lib/x86_64-linux-gnu" if os.uname().machine == "x86_64" else "/usr/lib/aarch64-linux-gnu"

# glibc loads it for pthread_exit(), so that no program names it.
LOADED_BY_NAME = [f"{LIBRARIES}/libgcc_s.so.1"]
# NVIDIA's container toolkit goes by /etc/debian_version for where to put the driver's libraries.
SYSTEM_FILES = ["/etc/debian_version", "/etc/os-release", "/usr/lib/os-release"]
# What a package's scripts make belongs to none.
CERTIFICATES = ("/etc/ssl/certs/ca-certificates.crt", "ca-certificates")


def output(*command):
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def libraries_of(path):
    """The loader and all that it would load, as paths."""
    found = []
    for line in output("ldd", path).splitlines():
        name, arrow, target = line.strip().partition(" => ")
        if "not found" in target:
            sys.exit(f"{path} needs {name}, which is not here")
        file = (target if arrow else name).split(" (")[0]
        if file.startswith("/"):
            found.append(file)
    return found


def owner(path):
    """The package that a file came with. Packages name it with or without /usr before /lib."""
    real = os.path.realpath(path)
    for name in {path, real, real.removeprefix("/usr"), path.removeprefix("/usr")}:
        result = subprocess.run(["dpkg-query", "-S", name], capture_output=True, text=True)
        if result.returncode == 0:
            return result.stdout.split(": ")[0].split(",")[0]
    return None


class Image:
    def __init__(self, root):
        self.root = pathlib.Path(root)
        self.packages, self.strangers = set(), set()

    def at(self, path):
        target = self.root / path.lstrip("/")
        target.parent.mkdir(parents=True, exist_ok=True)
        return target

    def write(self, path, text):
        self.at(path).write_text(text)

    def take(self, path, to=None, package=None):
        """A file and whose it is, at its own place."""
        target = self.at(to or path)
        if not target.exists():
            shutil.copy2(os.path.realpath(path), target)
        package = package or owner(path)
        if package is None:
            self.strangers.add(path)
        else:
            self.packages.add(package)

    def take_library(self, path):
        """As its plain name in the one folder that the loader looks in; the loader itself stays put."""
        name = os.path.basename(path)
        self.take(path, None if name.startswith("ld-linux") else f"{LIBRARIES}/{name}")

    def add_program(self, path, folder):
        target = self.at(f"{folder}/{os.path.basename(path)}")
        shutil.copy2(path, target)
        subprocess.run(["strip", "--strip-unneeded", str(target)], check=True)
        for library in libraries_of(path):
            self.take_library(library)


def record(image, package):
    """Licence and record of a package; returns its SPDX entry."""
    fields = output("dpkg-query", "-W", "-f", "${Package}\n${Version}\n${Architecture}\n${Maintainer}\n${Homepage}", package)
    name, version, arch, maintainer, homepage = fields.split("\n")
    image.write(f"/var/lib/dpkg/status.d/{name}", output("dpkg-query", "-s", package))
    licence = f"/usr/share/doc/{name}/copyright"
    if os.path.exists(licence):
        shutil.copy2(os.path.realpath(licence), image.at(licence))
    release = dict(line.strip().split("=", 1) for line in open("/etc/os-release") if "=" in line)
    system = release["ID"].strip('"')
    purl = f"pkg:deb/{system}/{name}@{version.replace(':', '%3A').replace('+', '%2B')}?arch={arch}&distro={system}-{release['VERSION_ID'].strip(chr(34))}"
    return {
        "SPDXID": f"SPDXRef-Package-{name.replace('+', '.')}",
        "name": name,
        "versionInfo": version,
        "supplier": f"Person: {maintainer.replace('<', '(').replace('>', ')')}",
        "downloadLocation": "NOASSERTION",
        **({"homepage": homepage} if homepage else {}),
        "filesAnalyzed": False,
        "licenseConcluded": "NOASSERTION",
        "licenseDeclared": "NOASSERTION",
        "copyrightText": "NOASSERTION",
        "externalRefs": [{"referenceCategory": "PACKAGE-MANAGER", "referenceType": "purl", "referenceLocator": purl}],
    }


def digest(path, kind):
    with open(path, "rb") as file:
        state = hashlib.new(kind)
        while block := file.read(1 << 20):
            state.update(block)
    return state.hexdigest()


def stranger(path):
    """A library without a package, as an SPDX package of one file."""
    name = os.path.basename(path)
    return {
        "SPDXID": f"SPDXRef-File-{name.replace('_', '-').replace('+', '.')}",
        "name": name,
        "packageFileName": path,
        "downloadLocation": "NOASSERTION",
        "filesAnalyzed": False,
        "licenseConcluded": "NOASSERTION",
        "licenseDeclared": "NOASSERTION",
        "copyrightText": "NOASSERTION",
        "checksums": [{"algorithm": "SHA256", "checksumValue": digest(path, "sha256")}],
    }


def sbom(name, programs, packages):
    """An SPDX 2.3 document. Its name goes by what is in it, and it has no date of today: the same files
    make the same image."""
    version = next(line.split("VERSION ")[1].split()[0] for line in open("CMakeLists.txt") if line.startswith("project("))
    own = {
        "SPDXID": "SPDXRef-gaggle",
        "name": name,
        "versionInfo": version,
        "downloadLocation": "NOASSERTION",
        "filesAnalyzed": False,
        "licenseConcluded": "Apache-2.0",
        "licenseDeclared": "Apache-2.0",
        "copyrightText": "NOASSERTION",
    }
    content = hashlib.sha256()
    for program in programs:
        content.update(digest(program, "sha256").encode())
    content.update(json.dumps(packages, sort_keys=True).encode())
    relations = [{"spdxElementId": "SPDXRef-DOCUMENT", "relationshipType": "DESCRIBES", "relatedSpdxElement": own["SPDXID"]}]
    relations += [
        {"spdxElementId": own["SPDXID"], "relationshipType": "CONTAINS", "relatedSpdxElement": p["SPDXID"]} for p in packages
    ]
    return {
        "spdxVersion": "SPDX-2.3",
        "dataLicense": "CC0-1.0",
        "SPDXID": "SPDXRef-DOCUMENT",
        "name": name,
        "documentNamespace": f"https://gaggle.invalid/sbom/{name}-{version}-{content.hexdigest()}",
        "creationInfo": {"created": "1970-01-01T00:00:00Z", "creators": ["Tool: gaggle-rootfs"]},
        "packages": [own] + packages,
        "relationships": relations,
    }


def make(root, name, files):
    image = Image(root)
    programs = []
    for file in files:
        path, folder = file.split(":")
        image.add_program(path, folder)
        programs.append(path)
    for path in LOADED_BY_NAME:
        image.take_library(path)
    for path in SYSTEM_FILES:
        image.take(path)
    image.take(CERTIFICATES[0], package=CERTIFICATES[1])
    # /lib and /lib64 as the distribution has them: links into /usr.
    for link in ("lib", "lib64"):
        real = image.root / link
        if os.path.islink(f"/{link}"):
            if real.is_dir():
                shutil.copytree(real, image.root / "usr" / link, dirs_exist_ok=True)
                shutil.rmtree(real)
            os.makedirs(image.root / "usr" / link, exist_ok=True)
            os.symlink(f"usr/{link}", real)
    image.write("/etc/passwd", f"root:x:0:0:root:/root:/sbin/nologin\ngaggle:x:{USER_ID}:{USER_ID}:gaggle:/home/gaggle:/sbin/nologin\n")
    image.write("/etc/group", f"root:x:0:\ngaggle:x:{USER_ID}:\n")
    image.write("/etc/nsswitch.conf", "passwd: files\ngroup: files\nhosts: files dns\n")
    shutil.copy2("LICENSE", image.at("/usr/share/doc/gaggle/copyright"))
    for folder, mode, user in (("tmp", 0o1777, 0), ("cache", 0o755, USER_ID), ("home/gaggle", 0o755, USER_ID), ("models", 0o755, 0)):
        path = image.root / folder
        path.mkdir(parents=True, exist_ok=True)
        path.chmod(mode)
        os.chown(path, user, user)
    packages = [record(image, p) for p in sorted(image.packages)] + [stranger(p) for p in sorted(image.strangers)]
    image.write(f"/usr/share/sbom/{name}.spdx.json", json.dumps(sbom(name, programs, packages), indent=1) + "\n")
    subprocess.run(["find", str(image.root), "-exec", "touch", "-h", "-d", "@0", "{}", "+"], check=True)
    print(f"{name}: {len(image.packages)} packages, {len(image.strangers)} other libraries, {output('du', '-sh', root).split()[0]}")


if __name__ == "__main__":
    if len(sys.argv) < 4:
        sys.exit(__doc__)
    make(sys.argv[1], sys.argv[2], sys.argv[3:])
