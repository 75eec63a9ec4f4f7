// An issuer of JSON Web Tokens. `env.JWT` is a CryptoKey that signs, and that no code can read.

interface Env {
  JWT: CryptoKey;
}

const encoder = new TextEncoder();

function base64url(data: string | ArrayBuffer): string {
  const bytes = typeof data === "string" ? encoder.encode(data) : new Uint8Array(data);
  return btoa(String.fromCharCode(...bytes)).replaceAll("+", "-").replaceAll("/", "_").replaceAll("=", "");
}

async function sign(key: CryptoKey, claims: object): Promise<string> {
  const input = `${base64url(JSON.stringify({ alg: "ES256" }))}.${base64url(JSON.stringify(claims))}`;
  const signature = await crypto.subtle.sign({ name: "ECDSA", hash: "SHA-256" }, key, encoder.encode(input));
  return `${input}.${base64url(signature)}`;
}

export default {
  async fetch(request: Request, env: Env) {
    const url = new URL(request.url);
    if (url.pathname === "/jwks.json") {
      return Response.json({ keys: [await crypto.subtle.exportKey("jwk", env.JWT)] });
    }
    const now = Math.floor(Date.now() / 1000);
    const token = await sign(env.JWT, { sub: url.searchParams.get("sub"), iat: now, exp: now + 3600 });
    return Response.json({ token });
  },
};
