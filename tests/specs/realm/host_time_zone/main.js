// The host's time zone, language and variables do not show.
const sandbox = new V8Sandbox();
const guest = await sandbox.createIsolate({ env: { GIVEN: "yes" } });
console.log(await guest.evaluate(`({
  offset: new Date(0).getTimezoneOffset(),
  summer: new Date(Date.UTC(2024, 6, 1)).getTimezoneOffset(),
  text: new Date(0).toString(),
  local: new Date(2024, 0, 1, 12).toISOString(),
  zone: Intl.DateTimeFormat().resolvedOptions().timeZone,
  language: Intl.DateTimeFormat().resolvedOptions().locale,
  env: NETWORK.env,
})`));
// A harmless use: a zone by name.
console.log(await guest.evaluate(`new Date(0).toLocaleString("en-US", { timeZone: "America/New_York" })`));
sandbox.shutdown();
