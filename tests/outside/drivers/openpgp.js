// Keys of the guest's own, of versions 4 and 6, by npm's openpgp; and messages with a grant of the kind `pgp`.

import * as openpgp from "openpgp";

const TEXT = "h\u00e9llo";

export default async (_options, env) => {
  const host = await openpgp.readKey({ armoredKey: await env.PGP.publicKey() });
  const given = {};
  for (const [version, config] of Object.entries({ v4: {}, v6: { v6Keys: true, aeadProtect: true } })) {
    const { privateKey, publicKey } = await openpgp.generateKey({
      type: "curve25519",
      userIDs: [{ name: "Guest", email: "guest@example.com" }],
      format: "object",
      config,
    });
    const keys = publicKey.armor();
    // By itself.
    const own = await openpgp.encrypt({
      message: await openpgp.createMessage({ text: TEXT }),
      encryptionKeys: publicKey,
      signingKeys: privateKey,
      config,
    });
    const opened = await openpgp.decrypt({
      message: await openpgp.readMessage({ armoredMessage: own }),
      decryptionKeys: privateKey,
      verificationKeys: publicKey,
    });
    await opened.signatures[0].verified;
    // To the host.
    const message = await openpgp.encrypt({
      message: await openpgp.createMessage({ text: TEXT }),
      encryptionKeys: host,
      signingKeys: privateKey,
      config,
    });
    const read = await env.PGP.decrypt(message, { keys, type: "text" });
    const detached = await openpgp.sign({
      message: await openpgp.createMessage({ binary: new TextEncoder().encode(TEXT) }),
      signingKeys: privateKey,
      detached: true,
      config,
    });
    const checked = await env.PGP.verify(TEXT, { signature: detached, keys });
    // From the host.
    const answer = await openpgp.decrypt({
      message: await openpgp.readMessage({
        armoredMessage: await env.PGP.encrypt(TEXT, { recipients: keys, sign: true }),
      }),
      decryptionKeys: privateKey,
      verificationKeys: host,
    });
    await answer.signatures[0].verified;
    given[version] = [opened.data, read.data, read.valid, checked.valid, answer.data];
  }
  return given;
};
