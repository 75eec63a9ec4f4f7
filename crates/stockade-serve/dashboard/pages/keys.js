// API keys: list, create, rotate, revoke.

import { html, useState } from "../vendor/libraries.js";
import { call, get, path } from "../api.js";
import { Badge, Card, Confirmed, Copy, Dialog, Empty, Field, Heading, Problem, Table, Text, useLoaded } from "../parts.js";
import { line, time } from "../shown.js";

const STATES = { active: "good", expired: "warn", revoked: "bad" };

export function Keys() {
  const { data, error, reload } = useLoaded((signal) => get("/v1/keys", signal), [], 10_000);
  const [creating, setCreating] = useState(false);
  const [made, setMade] = useState();
  const [rotating, setRotating] = useState();
  const keys = data?.keys ?? [];
  const create = async (form) => {
    const body = { name: form.get("name"), owner: form.get("owner"), scopes: form.get("scopes").split(/[\s,]+/).filter(Boolean) };
    if (form.get("expires")) body.expires = `${form.get("expires")}T00:00:00Z`;
    const answer = await call("POST", "/v1/keys", body);
    setCreating(false);
    setMade(answer.text);
    reload();
  };
  const rotate = async (form) => {
    const overlap_seconds = Number(form.get("overlap"));
    const answer = await call("POST", path("keys", rotating.id, "rotate"), { overlap_seconds });
    setRotating(undefined);
    setMade(answer.text);
    reload();
  };
  const revoke = async (key) => {
    await call("POST", path("keys", key.id, "revoke"));
    reload();
  };
  return html`
    <${Heading} actions=${html`<button type="button" class="primary" onClick=${() => setCreating(true)}>Create a key</button>`}>API keys<//>
    <${Problem} error=${error} />
    <${Card} id="keys" title="Keys">
      <${Table} label="API keys" rows=${keys} keyOf=${(key) => key.id}
        empty=${data && html`<${Empty} title="There are no keys yet.">
          <p>A key names a client. A site whose configuration says <code>auth: true</code> answers only clients with a key of the scope
          that it asks for. Make the first one here or with <code>stockade keys create NAME --scope read</code>.</p><//>`}
        columns=${[
          { title: "name", cell: (key) => html`<${Text} value=${key.name} most=${128} />` },
          { title: "id", cell: (key) => html`<code>${line(key.id, 40)}</code>` },
          { title: "state", cell: (key) => html`<${Badge} kind=${STATES[key.status]}>${line(key.status, 20)}<//>` },
          { title: "scopes", cell: (key) => html`<${Text} value=${key.scopes.join(", ")} />` },
          { title: "owner", cell: (key) => html`<${Text} value=${key.owner} most=${128} />` },
          { title: "expires", cell: (key) => key.expires ? time(key.expires) : "never" },
          { title: "last used", cell: (key) => key.last_used ? time(key.last_used) : "never" },
          { title: "actions", cell: (key) => key.status !== "active" ? "" : html`<span class="actions">
              <button type="button" aria-label=${`Rotate ${line(key.name, 60)}`} onClick=${() => setRotating(key)}>Rotate</button>
              <${Confirmed} label="Revoke" name=${`Revoke ${line(key.name, 60)}`} done="The key is revoked."
                question=${`Revoke the key ${line(key.name, 60)}? Its clients get 401 at once. This cannot be undone.`}
                act=${() => revoke(key)} />
            </span>` },
        ]} />
    <//>
    ${creating && html`<${Dialog} title="Create a key" action="Create" close=${() => setCreating(false)} submit=${create}>
      <${Field} label="Name" name="name" required maxlength="128" hint="For people: which client has it." />
      <${Field} label="Scopes" name="scopes" value="read" required hint="Separated by commas: read, write, admin, or a name that a site asks for. shop/read holds at one instance." />
      <${Field} label="Owner" name="owner" maxlength="128" />
      <${Field} label="Expires" name="expires" type="date" hint="At the start of this day in UTC. Empty: never." />
    <//>`}
    ${rotating && html`<${Dialog} title=${`Give ${line(rotating.name, 60)} a new text`} action="Rotate" close=${() => setRotating(undefined)} submit=${rotate}>
      <p>Id, scopes and metadata stay. Clients with the text before have until the end of the overlap to change over.</p>
      <${Field} label="The text before stays valid" name="overlap" value="86400"
        options=${[["86400", "for a day"], ["3600", "for an hour"], ["604800", "for a week"], ["0", "not at all"]]} />
    <//>`}
    ${made && html`<${Dialog} title="The new key" close=${() => setMade(undefined)} last="Done">
      <p>This is the only time that the key is shown. The server keeps a keyed hash of it.</p>
      <p class="secret" id="new-key">${line(made, 200)}</p>
      <${Copy} text=${made} />
    <//>`}`;
}
