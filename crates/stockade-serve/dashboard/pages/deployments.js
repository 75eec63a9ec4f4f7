// Versions of code: which ones get the requests of an instance, uploading one, and rolling back.

import { html, useState } from "../vendor/libraries.js";
import { call, get, path, query } from "../api.js";
import { Badge, Card, Confirmed, Dialog, Empty, Facts, Field, Heading, Problem, Table, Text, useLoaded } from "../parts.js";
import { bytes, line, number, time } from "../shown.js";

const SHARES = [100, 50, 25, 10, 5, 1].map((percent) => [String(percent), `${percent} %`]);
const STICKY = [["none", "no client"], ["cookie", "a client, by a cookie"]];

const traffic = (shares) => shares.map(({ version, percent }) => `${line(version, 40)} ${percent} %`).join(", ");

export function Deployments() {
  const { data, error } = useLoaded((signal) => get("/v1/instances", signal), [], 10_000);
  const [name, setName] = useState();
  const instances = (data?.instances ?? []).filter((instance) => instance.has_code);
  const chosen = instances.some((instance) => instance.name === name) ? name : instances[0]?.name;
  return html`
    <${Heading} actions=${chosen && html`<label>instance <select value=${chosen} onChange=${(event) => setName(event.target.value)}>
      ${instances.map((one) => html`<option key=${one.name} value=${one.name}>${line(one.name, 80)}</option>`)}</select></label>`}>Deployments<//>
    <${Problem} error=${error} />
    ${data && !chosen && html`<${Empty} title="No instance has code."><p>Name its module with <code>code</code> in the configuration.</p><//>`}
    ${chosen && html`<${OfInstance} key=${chosen} name=${chosen} />`}`;
}

function OfInstance({ name }) {
  const deployment = useLoaded((signal) => get(path("instances", name, "deployment"), signal), [name], 5000);
  const versions = useLoaded((signal) => get(path("instances", name, "versions"), signal), [name], 5000);
  const instance = useLoaded((signal) => get(path("instances", name), signal), [name], 5000);
  const [deploying, setDeploying] = useState();
  const reload = () => {
    deployment.reload();
    versions.reload();
  };
  if (deployment.error?.status === 409) {
    return html`<${Empty} title="This server takes no code."><p><code>deployments: true</code> in the configuration makes it keep versions of
      code that are uploaded here or with <code>stockade deploy</code>.</p><//>`;
  }
  const now = deployment.data;
  // As the server chooses: the latest one with other shares.
  const before = now?.past.find((past) => traffic(past.traffic) !== traffic(now.traffic));
  const again = (past) => async () => {
    await call("PUT", path("instances", name, "deployment"), { traffic: past.traffic, sticky: past.sticky, replaces: now.number });
    reload();
  };
  const rollBack = async () => {
    await call("POST", path("instances", name, "rollback"), {});
    reload();
  };
  return html`
    <${Problem} error=${deployment.error ?? versions.error} />
    <${Card} id="now" title="Requests now" actions=${html`<${Confirmed} label="Roll back" disabled=${!before}
      question=${`Give the requests back to ${before ? traffic(before.traffic) : ""}?`} act=${rollBack} done="Rolled back." />`}>
      <${Facts} of=${[
        ["versions", now ? traffic(now.traffic) : "\u2013"],
        instance.data?.versions.length > 1 && ["requests and errors", html`<a href=${`#/instances/${encodeURIComponent(name)}`}>${
          instance.data.versions.map((one) => `${line(one.version, 40)}: ${number(one.requests)}, ${number(one.errors)}`).join("; ")}</a>`],
        ["deployment", now ? number(now.number) : "\u2013"],
        ["since", now?.created ? time(now.created) : "\u2013"],
        ["by", html`<${Text} value=${now?.caller || "\u2013"} most=${200} />`],
      ]} />
    <//>
    <${Card} id="uploaded" title="Versions">
      <${Table} label="Versions" rows=${versions.data?.versions ?? []} keyOf=${(one) => one.version}
        empty=${versions.data && html`<${Empty} title="No version was uploaded yet."><p>The instance runs the code that the configuration names, which is
          called <code>file</code>. Upload an archive or a folder below, or run <code>stockade deploy FOLDER</code>.</p><//>`}
        columns=${[
          { title: "version", cell: (one) => html`<code>${line(one.version, 40)}</code>` },
          { title: "requests", cell: (one) => one.percent > 0 ? html`<${Badge} kind="good">${one.percent} %<//>` : "none" },
          { title: "uploaded", cell: (one) => time(one.created) },
          { title: "by", cell: (one) => html`<${Text} value=${one.caller} most=${120} />` },
          { title: "message", long: true, cell: (one) => html`<${Text} value=${one.message} most=${300} />` },
          { title: "files", numeric: true, cell: (one) => number(one.files) },
          { title: "size", numeric: true, cell: (one) => bytes(one.bytes) },
          { title: "actions", cell: (one) => html`<button type="button" aria-label=${`Deploy ${line(one.version, 40)}`} onClick=${() => setDeploying(one.version)}>Deploy</button>` },
        ]} />
    <//>
    <${Upload} name=${name} done=${reload} />
    <${Card} id="past" title="Deployments before">
      <${Table} label="Deployments before" rows=${now?.past ?? []} keyOf=${(past) => past.number}
        empty=${now && html`<p class="quiet">There was none.</p>`} columns=${[
          { title: "number", cell: (past) => number(past.number) },
          { title: "versions", long: true, cell: (past) => traffic(past.traffic) },
          { title: "from", cell: (past) => (past.created ? time(past.created) : "the start") },
          { title: "by", cell: (past) => html`<${Text} value=${past.caller} most=${200} />` },
          { title: "actions", cell: (past) => html`<${Confirmed} label="Deploy again" kind="" name=${`Deploy ${past.number} again`}
            question=${`Give the requests to ${traffic(past.traffic)}?`} act=${again(past)} done="Deployed." />` },
        ]} />
    <//>
    ${deploying && html`<${Deploy} name=${name} version=${deploying} now=${now} done=${reload} close=${() => setDeploying(undefined)} />`}`;
}

function Deploy({ name, version, now, done, close }) {
  const deploy = async (form) => {
    const percent = Number(form.get("percent"));
    await call("PUT", path("instances", name, "deployment"),
      { traffic: shares(now.traffic, version, percent), sticky: form.get("sticky"), replaces: now.number });
    done();
    close();
  };
  return html`<${Dialog} title=${`Deploy ${line(version, 40)}`} action="Deploy" close=${close} submit=${deploy}>
    <p>Its mirrors start next to those that run. It gets requests once they serve.</p>
    <${Field} label="Share of the requests" name="percent" options=${SHARES} hint="The others keep the rest, in proportion." />
    <${Field} label="Who stays with a version" name="sticky" options=${STICKY} />
  <//>`;
}

/** The shares with which a version gets this percentage, and the others the rest in proportion. */
function shares(before, version, percent) {
  const others = before.filter((share) => share.version !== version);
  const rest = 100 - percent;
  const sum = others.reduce((total, share) => total + share.percent, 0);
  if (rest === 0 || sum === 0) return [{ version, percent: 100 }];
  const scaled = others.map((share) => ({ version: share.version, percent: Math.floor((share.percent * rest) / sum) }));
  scaled[0].percent += rest - scaled.reduce((total, share) => total + share.percent, 0);
  return [{ version, percent }, ...scaled.filter((share) => share.percent > 0)];
}

function Upload({ name, done }) {
  const [error, setError] = useState();
  const [said, setSaid] = useState("");
  const [over, setOver] = useState(false);
  const upload = async (event) => {
    event.preventDefault();
    const form = event.target;
    setError(undefined);
    setSaid("");
    try {
      const [archive] = form.elements.archive.files;
      const folder = [...form.elements.folder.files];
      if (Boolean(archive) === folder.length > 0) throw new Error("Choose an archive or a folder: one of the two.");
      const target = `${path("instances", name, "versions")}${query({ message: form.elements.message.value })}`;
      const version = archive
        ? await call("POST", target, archive, { headers: { "content-type": await archiveType(archive) } })
        : await call("POST", target, { files: await texts(folder) });
      setSaid(`Uploaded as ${line(version.version, 40)}.`);
      form.reset();
      done();
    } catch (failed) {
      setError(failed);
    }
  };
  const drag = (event) => {
    if (!event.dataTransfer.types.includes("Files")) return;
    event.preventDefault();
    setOver(true);
  };
  const leave = (event) => {
    if (!event.currentTarget.contains(event.relatedTarget)) setOver(false);
  };
  // What is dropped is in the field, as if it had been chosen there.
  const drop = (event) => {
    event.preventDefault();
    setOver(false);
    setError(undefined);
    const { files, items } = event.dataTransfer;
    const isFile = files.length === 1 && !items[0]?.webkitGetAsEntry?.()?.isDirectory;
    if (isFile) event.currentTarget.elements.archive.files = files;
    else setError(new Error("Drop one archive. A folder is chosen with its field."));
  };
  return html`<${Card} id="upload" title="Upload a version">
    <form class=${`filter${over ? " over" : ""}`} onSubmit=${upload} onDragOver=${drag} onDragLeave=${leave} onDrop=${drop}>
      <${Field} label="Archive with the code" name="archive" type="file" accept=".zip,.tar.gz,.tgz,.tar" hint="zip, tar.gz or tar. It can be dropped here, too." />
      <${Field} label="Folder with the code" name="folder" type="file" webkitdirectory hint="Files of text. Of an archive, each file is taken." />
      <${Field} label="Message" name="message" maxlength="1000" />
      <button class="primary">Upload</button>
    </form>
    <p role="status">${said}</p>
    <${Problem} error=${error} />
  <//>`;
}

/** The media type of an archive, by its first bytes: names of files say little. */
async function archiveType(file) {
  const head = new Uint8Array(await file.slice(0, 262).arrayBuffer());
  const has = (bytes, at) => bytes.every((byte, index) => head[at + index] === byte);
  if (has([0x50, 0x4b], 0)) return "application/zip";
  if (has([0x1f, 0x8b], 0)) return "application/gzip";
  if (has([...new TextEncoder().encode("ustar")], 257)) return "application/x-tar";
  throw new Error(`${line(file.name, 200)} is not an archive: zip, tar.gz and tar are taken.`);
}

/** The texts of a chosen folder by their paths in it, without what begins with a dot and node_modules. */
async function texts(files) {
  const found = {};
  for (const file of files) {
    const name = file.webkitRelativePath.split("/").slice(1);
    if (name.some((part) => part.startsWith(".") || part === "node_modules")) continue;
    try {
      found[name.join("/")] = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(await file.arrayBuffer());
    } catch {
      throw new Error(`${line(name.join("/"), 200)} is not text. \`stockade deploy\` uploads other files, too.`);
    }
  }
  return found;
}
