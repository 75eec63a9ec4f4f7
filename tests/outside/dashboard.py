"""The dashboard of the admin API in Chromium, driven by Playwright: what an operator does with it, by pointer and by
keyboard, and what a hostile site and a hostile client can make of it. axe-core checks each page in both themes."""

import io
import json
import math
import re
import secrets
import shutil
import subprocess
import tarfile
import threading
import time
import urllib.error
import urllib.request
import zipfile

from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import expect, sync_playwright
from server import HERE, ROOT, Server, free_port

PAGES = ["overview", "instances/site", "instances/hostile", "deployments", "keys", "audit", "usage", "profiles", "configuration"]
PHONE = {"width": 360, "height": 740}
WIDE = {"width": 1280, "height": 800}
WAIT = 60_000


class Dashboard(Server):
    """With the admin API, a site that asks for keys, and a hostile one."""

    def more_config(self):
        self.admin = free_port()
        places = ["--store", str(self.folder / "keys.db"), "--pepper", str(self.folder / "keys.pepper")]
        make = [self.binary, "keys", "create", "operator", "--scope", "admin", *places]
        self.key = subprocess.run(make, check=True, capture_output=True, text=True).stdout.strip()
        return {
            "admin": {"listen": f"127.0.0.1:{self.admin}"},
            "api_keys": {"path": str(self.folder / "keys.db"), "pepper": str(self.folder / "keys.pepper")},
            "audit": {"folder": str(self.folder / "audit")},
            "deployments": {"folder": str(self.folder / "deployments")},
            "control": str(self.folder / "control"),
            "state": {"path": str(self.folder / "state.db")},
            "logging": {"level": "info", "access": False, "file": str(self.folder / "log.txt")},
        }

    def more_instances(self):
        code = self.folder / "hostile.js"
        shutil.copy(HERE / "dashboard/index.js", code)
        return {
            "hostile": {
                "code": str(code), "urls": ["hostile.localhost"], "state": True,
                "limits": {"memory": "128mb", "cpu": "200ms", "timeout": "5s"},
            },
            "closed": {"code": str(HERE / "site/index.js"), "urls": ["closed.localhost"], "auth": True,
                       "rate_limits": [{"by": "key", "requests": "2/day"}]},
        }

    def ask(self, site, path, key=None):
        """Status and body of a request to a site."""
        headers = {"host": f"{site}.localhost"}
        if key:
            headers["authorization"] = f"Bearer {key}"
        request = urllib.request.Request(f"http://127.0.0.1:{self.plain}{path}", headers=headers)
        try:
            with urllib.request.urlopen(request, timeout=30) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            return error.code, error.read().decode()


def server(quick):
    return Dashboard


def chromium():
    for name in ("chromium", "chromium-browser", "google-chrome"):
        if found := shutil.which(name):
            return found
    raise RuntimeError("no Chromium: install the package chromium")


class Browser:
    """One Chromium for all checks. What its console says of errors is kept."""

    def __init__(self, server):
        self.server, self.said = server, []
        expect.set_options(timeout=WAIT)
        self.playwright = sync_playwright().start()
        # A container has no user namespaces to spare for Chromium's own sandbox; all pages are this test's.
        self.chromium = self.playwright.chromium.launch(executable_path=chromium(), args=["--no-sandbox"])

    def page(self, theme="light", viewport=WIDE, login=True):
        context = self.chromium.new_context(viewport=viewport, color_scheme=theme, reduced_motion="reduce")
        context.grant_permissions(["clipboard-read", "clipboard-write"])
        page = context.new_page()
        page.set_default_timeout(WAIT)
        page.on("pageerror", lambda error: self.said.append(f"exception: {error}"))
        page.on("console", lambda message: self.heed(message))
        page.goto(f"http://127.0.0.1:{self.server.admin}/")
        if login:
            page.get_by_label("API key").fill(self.server.key)
            page.keyboard.press("Enter")
            page.get_by_role("heading", name="Overview").wait_for()
        return page

    def heed(self, message):
        # A refused request is a line of the console too; checks read what the page makes of it.
        if message.type == "error" and "the server responded with a status of" not in message.text:
            self.said.append(message.text)

    def close(self):
        self.chromium.close()
        self.playwright.stop()


def open_page(page, name):
    page.goto(re.sub(r"#.*", "", page.url) + f"#/{name}")
    page.get_by_role("heading", level=1).wait_for()


def login(browser):
    """a wrong key is refused with the reason, and an admin key opens the overview"""
    page = browser.page(login=False)
    field = page.get_by_label("API key")
    expect(field).to_be_focused()
    field.fill("sk_stockade_wrong")
    page.get_by_role("button", name="Log in").click()
    expect(page.get_by_role("alert")).to_contain_text("not valid")
    field.fill(browser.server.key)
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", name="Overview")).to_be_focused()
    page.context.close()


def session(browser):
    """the key is in no cookie, storage, URL or element; a reload asks again, and logging out forgets it"""
    page = browser.page()
    kept = page.evaluate(
        "[document.cookie, JSON.stringify(localStorage), JSON.stringify(sessionStorage), location.href, document.documentElement.outerHTML].join()")
    if browser.server.key in kept or page.context.cookies():
        return "the key or a cookie is kept"
    page.reload()
    expect(page.get_by_label("API key")).to_be_visible()
    page.get_by_label("API key").fill(browser.server.key)
    page.keyboard.press("Enter")
    page.get_by_role("button", name="Log out").click()
    expect(page.get_by_role("status").filter(has_text="logged out")).to_be_visible()
    page.context.close()


def policy(browser):
    """the browser makes no document from text, runs no inline script, and lets no page embed this one"""
    page = browser.page()
    answer = page.request.get(page.url)
    headers = {name.lower(): value for name, value in answer.headers.items()}
    for name, part in (("content-security-policy", "default-src 'none'"), ("content-security-policy", "frame-ancestors 'none'"),
                       ("x-content-type-options", "nosniff"), ("referrer-policy", "no-referrer"),
                       ("cross-origin-opener-policy", "same-origin"), ("cross-origin-resource-policy", "same-origin")):
        if part not in headers.get(name, ""):
            return f"{name} is {headers.get(name)!r}"
    tried = page.evaluate("""() => {
        const found = [];
        try { document.body.insertAdjacentHTML("beforeend", "<p>made</p>"); found.push("markup from text"); } catch {}
        const script = document.createElement("script");
        try { script.textContent = "window.taken = 1"; document.body.append(script); } catch {}
        if (window.taken) found.push("inline script");
        const style = document.createElement("p");
        style.setAttribute("style", "color: red");
        if (style.style.color) found.push("inline style");
        return found.join();
    }""")
    # These refusals are the subject of this check.
    browser.said.clear()
    page.context.close()
    return tried or None


def kill(browser):
    """a mirror that loops is killed, and the page shows it without a reload"""
    page = browser.page()
    expect(page.get_by_role("group", name="Instances")).to_contain_text("hostile")
    browser.server.ask("hostile", "/")
    status, _ = browser.server.ask("hostile", "/loop")
    if status < 500:
        return f"the loop was answered with {status}"
    page.get_by_role("combobox", name=re.compile("^last")).select_option("1")
    events = page.get_by_role("group", name="Events")
    expect(events.filter(has_text="cpu_limit_exceeded")).to_be_visible()
    expect(page.locator("#chart-kills").locator("xpath=ancestor::section")).to_contain_text("cpu_limit_exceeded")
    page.context.close()


def keys(browser):
    """a key is created and shown once, opens a site, and is revoked at once"""
    page = browser.page()
    open_page(page, "keys")
    page.get_by_role("button", name="Create a key").click()
    dialog = page.get_by_role("dialog")
    mark = secrets.token_hex(4)
    name = f"<img src=x onerror='window.taken=1'>\u202e{mark}"
    dialog.get_by_label("Name").fill(name)
    dialog.get_by_role("button", name="Create").click()
    key = page.locator("#new-key").inner_text()
    if browser.server.ask("closed", "/", key)[0] != 200:
        return "the new key opens nothing"
    page.get_by_role("dialog").get_by_role("button", name="Done").click()
    if key in page.content():
        return "the key is still in the document"
    row = page.get_by_role("row").filter(has_text=mark)
    expect(row).to_contain_text("<img src=x onerror='window.taken=1'>\\u{202e}" + mark)
    row.get_by_role("button", name="Revoke").click()
    page.get_by_role("dialog").get_by_role("button", name="Revoke").click()
    expect(page.get_by_role("row").filter(has_text=mark)).to_contain_text("revoked")
    if browser.server.ask("closed", "/", key)[0] != 401:
        return "the revoked key still opens the site"
    taken = page.evaluate("window.taken")
    page.context.close()
    return f"a key's name ran as script: {taken}" if taken else None


def limits(browser):
    """the use of a client is shown by its key, and a counter is set back"""
    server, page = browser.server, browser.page()
    places = ["--store", str(server.folder / "keys.db"), "--pepper", str(server.folder / "keys.pepper")]
    made = subprocess.run([server.binary, "keys", "create", "limited", "--scope", "read", "--json", *places],
                          check=True, capture_output=True, text=True)
    key = json.loads(made.stdout)
    # The server looks for changes of the store once a second.
    deadline = time.monotonic() + 60
    while (first := server.ask("closed", "/", key["key"])[0]) == 401 and time.monotonic() < deadline:
        time.sleep(0.1)
    statuses = [first, *(server.ask("closed", "/", key["key"])[0] for _ in range(2))]
    if statuses != [200, 200, 429]:
        return f"the site answered {statuses}"
    open_page(page, "instances/closed")
    page.get_by_label("Use of a client").fill(key["id"])
    page.keyboard.press("Enter")
    row = page.get_by_role("group", name="Limits of clients").get_by_role("row").filter(has_text="key-requests")
    expect(row.locator("td").nth(3)).to_have_text("0")
    row.get_by_role("button", name="Set back").click()
    expect(row.locator("td").nth(3)).to_have_text("2")
    page.context.close()
    status = server.ask("closed", "/", key["key"])[0]
    return None if status == 200 else f"after that the site answered {status}"


def hostile(browser):
    """markup, escape sequences, marks of direction and lines of a megabyte in a guest's log and errors are text"""
    page = browser.page()
    open_page(page, "instances/hostile")
    log = page.get_by_role("log")
    expect(page.locator("section", has=page.locator("#logs"))).to_contain_text("live")
    browser.server.ask("hostile", "/log")
    browser.server.ask("hostile", "/throw")
    expect(log).to_contain_text("last line")
    expect(log).to_contain_text("marked <img src=x onerror=")
    errors = page.locator("section", has=page.locator("#errors"))
    expect(errors).to_contain_text("thrown <img src=x")
    errors.locator("summary").first.click()
    expect(errors.locator("pre").first).to_contain_text("hostile.js:18:15")
    found = page.evaluate("""() => ({
        taken: window.taken, images: document.querySelectorAll("main img, main script").length,
        hidden: /[\\0-\\x08\\x0b-\\x1f\\x7f-\\x9f\\u202a-\\u202e\\u2066-\\u2069]/.test(document.body.textContent),
        length: document.body.textContent.length })""")
    page.context.close()
    if found["taken"] or found["images"] or found["hidden"] or found["length"] > 200_000:
        return f"the page has {found}"
    return None


def refused(browser):
    """refused egress is shown with its reason, and one press copies the rule"""
    page = browser.page()
    _, said = browser.server.ask("hostile", "/egress")
    open_page(page, "instances/hostile")
    row = page.get_by_role("group", name="Refused egress").get_by_role("row").filter(has_text="https://api.example.com:443")
    expect(row).to_contain_text("no rule of data_guard allows this host")
    row.get_by_role("button", name="Copy the rule").click()
    expect(row.get_by_role("button", name="Copied")).to_be_visible()
    copied = page.evaluate("navigator.clipboard.readText()")
    page.context.close()
    if 'outbound_whitelist: ["https://api.example.com:443"]' not in copied:
        return f"copied {copied!r}"
    return None if "refused" in said else f"the guest got {said!r}"


def state(browser):
    """the state of an instance is read, its keys and values as text"""
    page = browser.page()
    browser.server.ask("hostile", "/state")
    open_page(page, "instances/hostile")
    row = page.get_by_role("group", name="Keys").get_by_role("row").filter(has_text="key <img")
    expect(row).to_contain_text("\\u{202e}gnp.exe")
    row.get_by_role("button", name="Show").click()
    expect(page.get_by_role("dialog")).to_contain_text("value <img src=x")
    page.keyboard.press("Escape")
    expect(page.get_by_role("dialog")).to_have_count(0)
    expect(row.get_by_role("button", name="Show")).to_be_focused()
    page.context.close()


def search(browser):
    """the audit log is searched by event, and shows who did what"""
    page = browser.page()
    open_page(page, "audit")
    page.get_by_label("Event").fill("mirror_ended")
    page.keyboard.press("Enter")
    records = page.get_by_role("group", name="Audit records")
    expect(records).to_contain_text("cpu_limit_exceeded")
    expect(records).not_to_contain_text("server_started")
    page.context.close()


def keyboard(browser):
    """everything is reached by the keyboard, with a visible focus"""
    page = browser.page()
    page.keyboard.press("Shift+Tab")
    for _ in range(60):
        if page.evaluate("document.activeElement.className") == "skip":
            break
        page.keyboard.press("Shift+Tab")
    expect(page.get_by_role("link", name="Skip to the content")).to_be_focused()
    page.keyboard.press("Enter")
    expect(page.locator("#content")).to_be_focused()
    # From the skip link the next stops are the pages.
    page.get_by_role("link", name="Skip to the content").focus()
    page.keyboard.press("Tab")
    expect(page.get_by_role("link", name="Overview")).to_be_focused()
    if page.evaluate("getComputedStyle(document.activeElement).outlineStyle") == "none":
        return "the focus cannot be seen"
    page.get_by_role("link", name="API keys").focus()
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", name="API keys")).to_be_focused()
    page.get_by_role("button", name="Create a key").focus()
    page.keyboard.press("Enter")
    expect(page.get_by_role("dialog").get_by_label("Name")).to_be_focused()
    page.keyboard.press("Escape")
    expect(page.get_by_role("button", name="Create a key")).to_be_focused()
    page.context.close()


def mirrors(browser):
    """a mirror is killed and another one takes its place, and one is started and drained"""
    page = browser.page()
    open_page(page, "instances/site")
    rows = page.get_by_role("group", name="Mirrors").locator("tbody tr")
    expect(rows).to_have_count(2)
    first = rows.first.locator("th").inner_text()
    page.get_by_role("button", name=f"Kill mirror {first}", exact=True).click()
    page.get_by_role("dialog").get_by_role("button", name="Kill").click()
    expect(page.get_by_role("button", name=f"Kill mirror {first}", exact=True)).to_have_count(0)
    expect(rows).to_have_count(2)
    page.get_by_role("button", name="Start a mirror").click()
    expect(rows.filter(has_text="ready")).to_have_count(3)
    rows.last.get_by_role("button", name="Drain").click()
    expect(rows).to_have_count(2)
    page.context.close()


def configuration(browser):
    """a wrong configuration is refused with its key, a right one is applied, and rolled back"""
    page = browser.page()
    open_page(page, "configuration")
    text = page.get_by_label("The text of the configuration")
    expect(text).not_to_have_value("")
    before = text.input_value()
    changed = re.sub(r"(timeout\"?: \"?)5s", r"\g<1>6s", before, count=1)
    text.fill(changed.replace("timeout", "timeoot", 1))
    page.get_by_role("button", name="Validate").click()
    expect(page.get_by_role("group", name="Diagnostics")).to_contain_text("timeoot")
    text.fill(changed)
    page.get_by_role("button", name="Compare").click()
    expect(page.locator("#file").locator("xpath=ancestor::section")).to_contain_text("changed instances")
    page.get_by_role("button", name="Apply").click()
    page.get_by_role("dialog").get_by_role("button", name="Apply").click()
    expect(page.get_by_role("group", name="Outcome")).to_contain_text("In use")
    expect(text).to_have_value(changed)
    page.get_by_role("button", name=re.compile("^Roll back to version")).last.click()
    page.get_by_role("dialog").get_by_role("button", name="Roll back").click()
    expect(text).to_have_value(before)
    page.context.close()


def deployment(browser):
    """a folder is uploaded, deployed with a share that the instance shows, given all requests, and rolled back"""
    server, page = browser.server, browser.page()
    folder = server.folder / "next"
    folder.mkdir(exist_ok=True)
    mark = secrets.token_hex(4)
    (folder / "index.js").write_text(f"export default {{ fetch: () => new Response('version {mark}') }};")
    open_page(page, "deployments")
    page.get_by_label("instance").select_option("site")
    page.get_by_label("Folder with the code").set_input_files(folder)
    page.get_by_label("Message").fill(f"<b>{mark}</b>")
    page.get_by_role("button", name="Upload").click()
    row = page.get_by_role("group", name="Versions").get_by_role("row").filter(has_text=f"<b>{mark}</b>")
    for percent in ("25", "100"):
        row.get_by_role("button", name="Deploy").click()
        page.get_by_role("dialog").get_by_label("Share of the requests").select_option(percent)
        page.get_by_role("dialog").get_by_role("button", name="Deploy").click()
        expect(row).to_contain_text(f"{percent} %")
    if mark not in server.ask("site", "/")[1]:
        return "the new version does not answer"
    page.get_by_role("button", name="Roll back").click()
    page.get_by_role("dialog").get_by_role("button", name="Roll back").click()
    expect(row).to_contain_text("25 %")
    # While requests are split, the page of the instance has both versions, and their mirrors.
    open_page(page, "instances/site")
    split = page.get_by_role("group", name="Versions with a share")
    expect(split.get_by_role("row")).to_have_count(3)
    expect(split).to_contain_text("75 %")
    expect(page.get_by_role("group", name="Mirrors").get_by_role("row").filter(has_text="file")).not_to_have_count(0)
    open_page(page, "deployments")
    page.get_by_label("instance").select_option("site")
    past = page.get_by_role("group", name="Deployments before").get_by_role("row").filter(has_text="file 100 %").last
    past.get_by_role("button", name="again").click()
    page.get_by_role("dialog").get_by_role("button", name="Deploy again").click()
    expect(row).to_contain_text("none")
    said = server.ask("site", "/")[1]
    page.context.close()
    return None if said == "hello\n" else f"after the roll back the site says {said!r}"


def archives(browser):
    """a zip archive is dropped on the form, a tar.gz archive is chosen by the keyboard, and text or an archive that leads out is refused"""
    server, page = browser.server, browser.page()
    open_page(page, "deployments")
    page.get_by_label("instance").select_option("site")
    form = page.locator("section", has=page.locator("#upload"))
    field, message, send = form.get_by_label("Archive"), form.get_by_label("Message"), form.get_by_role("button", name="Upload")
    row = lambda mark: page.get_by_role("group", name="Versions").get_by_role("row").filter(has_text=mark)
    code = lambda mark: f"export default {{ fetch: () => new Response('version {mark}') }};"
    zipped, tarred = secrets.token_hex(4), secrets.token_hex(4)

    drop(form, "site.zip", zip_of("index.js", code(zipped)))
    expect(form.locator(".over")).to_have_count(0)
    message.fill(zipped)
    send.click()
    row(zipped).get_by_role("button", name="Deploy").click()
    page.get_by_role("dialog").get_by_role("button", name="Deploy").click()
    expect(row(zipped)).to_contain_text("100 %")
    if (said := server.ask("site", "/")[1]) != f"version {zipped}":
        return f"the site says {said!r}"
    page.get_by_role("button", name="Roll back").click()
    page.get_by_role("dialog").get_by_role("button", name="Roll back").click()
    expect(row(zipped)).to_contain_text("none")

    # A dialog that closes gives the focus back.
    expect(page.get_by_role("dialog")).to_have_count(0)
    with page.expect_file_chooser() as chooser:
        field.press("Enter")
    chooser.value.set_files({"name": "site.tgz", "mimeType": "", "buffer": tar_gz_of("index.js", code(tarred))})
    message.fill(tarred)
    page.keyboard.press("Enter")
    expect(row(tarred)).to_contain_text("none")

    for name, content, why in (("site.zip", b"text", "is not an archive"), ("site.zip", zip_of("../out.js", ""), "out.js")):
        field.set_input_files({"name": name, "mimeType": "application/zip", "buffer": content})
        send.click()
        expect(form.get_by_role("alert")).to_contain_text(why)
    page.context.close()
    return None


def drop(form, name, content):
    """Drops a file on a form, as a file manager does."""
    form.locator("form").evaluate("""(form, [name, bytes]) => {
        const dataTransfer = new DataTransfer();
        dataTransfer.items.add(new File([Uint8Array.from(bytes)], name));
        for (const kind of ["dragover", "drop"]) form.dispatchEvent(new DragEvent(kind, { dataTransfer, bubbles: true, cancelable: true }));
    }""", [name, list(content)])


def zip_of(name, text):
    written = io.BytesIO()
    with zipfile.ZipFile(written, "w") as archive:
        archive.writestr(name, text)
    return written.getvalue()


def tar_gz_of(name, text):
    written = io.BytesIO()
    with tarfile.open(fileobj=written, mode="w:gz") as archive:
        member = tarfile.TarInfo(name)
        member.size = len(text)
        archive.addfile(member, io.BytesIO(text.encode()))
    return written.getvalue()


def profile(browser):
    """a CPU profile is recorded, drawn as a flame graph and downloaded"""
    page = browser.page()
    open_page(page, "profiles")
    page.get_by_label("Instance").select_option("site")
    page.get_by_label("Seconds").fill("1")
    page.get_by_role("button", name="Record").click()
    expect(page.get_by_role("img", name=re.compile("^Flame graph"))).to_be_visible()
    expect(page.get_by_role("group", name="Functions by their own time")).to_contain_text("%")
    with page.expect_download() as download:
        page.get_by_role("button", name="Download").click()
    name = download.value.suggested_filename
    page.context.close()
    return None if name.endswith(".cpuprofile") else f"the file is called {name}"


def accessible(browser):
    found = []
    for theme in ("light", "dark"):
        page = browser.page(theme)
        for name in PAGES:
            open_page(page, name)
            page.locator("section, .empty").first.wait_for()
            results = Axe().run(page).response["violations"]
            found += [f"{theme} {name}: {one['id']}: {one['nodes'][0]['html'][:120]}" for one in results
                      if one["impact"] in ("serious", "critical")]
        page.context.close()
    return "\n".join(found) or None


# Adds up how far things move that the reader has seen (https://web.dev/articles/cls).
SHIFTS = """window.moved = 0; new PerformanceObserver((list) => {
    for (const entry of list.getEntries()) if (!entry.hadRecentInput) window.moved += entry.value;
}).observe({ type: "layout-shift", buffered: true })"""


def fits(browser):
    page = browser.page(viewport=PHONE)
    page.evaluate(SHIFTS)
    found = []
    for name in PAGES:
        open_page(page, name)
        page.locator("section, .empty").first.wait_for()
        width = page.evaluate("document.documentElement.scrollWidth")
        if width > PHONE["width"]:
            found.append(f"{name} is {width} wide")
    moved = page.evaluate("window.moved")
    if moved > 0.1:
        found.append(f"things move: {moved:.3f}")
    page.context.close()
    return "\n".join(found) or None


def checks(server):
    browser = Browser(server)
    try:
        for check in (login, session, policy, kill, mirrors, keys, limits, hostile, refused, state, search, configuration, archives,
                      deployment, profile, keyboard):
            yield check.__doc__.strip().rstrip("."), lambda check=check: check(browser)
        yield "axe-core finds nothing serious on any page, in both themes", lambda: accessible(browser)
        yield "every page fits a phone's width, and nothing moves while it loads", lambda: fits(browser)
        yield "the browser's console has no error and no breach of the policy", lambda: "\n".join(browser.said[:5]) or None
    finally:
        browser.close()


def traffic(server, ended):
    """Requests with a rate that goes up and down, errors and kills, until it is to end."""
    number = 0
    while not ended.is_set():
        number += 1
        server.ask("site", "/" if number % 9 else f"/stream?bytes={number % 50 * 20_000}")
        if number % 300 == 0:
            server.ask("hostile", "/throw")
        if number % 700 == 0:
            server.ask("hostile", "/loop")
        ended.wait(0.01 + 0.01 * (1 + math.sin(number / 90)))


def write(server):
    """Renews the pictures of docs/dashboard.md, after a minute of traffic."""
    ended = threading.Event()
    thread = threading.Thread(target=traffic, args=(server, ended))
    thread.start()
    try:
        ended.wait(75)
        pictures(server)
    finally:
        ended.set()
        thread.join()


def pictures(server):
    browser = Browser(server)
    for name, theme, viewport, path in (
        ("light", "light", {"width": 1280, "height": 820}, "overview"),
        ("dark", "dark", {"width": 1280, "height": 860}, "instances/site"),
        ("phone", "light", PHONE, "overview"),
    ):
        page = browser.page(theme, viewport)
        open_page(page, path)
        page.get_by_role("combobox", name=re.compile("^last")).select_option("1")
        page.wait_for_function("document.querySelectorAll('.plot canvas').length >= 4")
        expect(page.locator(".legend").first).not_to_contain_text("\u2013")
        page.screenshot(path=ROOT / f"docs/pictures/dashboard-{name}.png")
        page.context.close()
    browser.close()
