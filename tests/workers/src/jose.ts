// Signs and reads JSON Web Tokens with keys that the host holds, as jose's documentation writes it.
import {
  CompactEncrypt,
  compactDecrypt,
  CompactSign,
  compactVerify,
  exportSPKI,
  jwtVerify,
  SignJWT,
} from "jose";

const text = (bytes: Uint8Array) => new TextDecoder().decode(bytes);

// The public half as a key of its own.
async function half(key: CryptoKey, usage: KeyUsage): Promise<CryptoKey> {
  return await (crypto.subtle as any).getPublicKey(key, [usage]);
}

async function signed(key: CryptoKey, alg: string) {
  const token = await new SignJWT({ sub: "ada" }).setProtectedHeader({ alg }).setIssuer("shop").sign(key);
  const verifier = key.type === "secret" ? key : await half(key, "verify");
  const { payload } = await jwtVerify(token, verifier, { issuer: "shop" });
  const compact = await new CompactSign(new TextEncoder().encode("plain")).setProtectedHeader({ alg }).sign(key);
  const plain = await compactVerify(compact, verifier);
  const forged = await jwtVerify(`${token.slice(0, -6)}AAAAAA`, verifier).then(() => "taken", (error) => error.code);
  const spki = key.type === "secret" ? null : await exportSPKI(await half(key, "verify"));
  return { token, sub: payload.sub, plain: text(plain.payload), forged, spki };
}

async function sealed(key: CryptoKey, alg: string, enc: string) {
  const encrypter = key.type === "secret" ? key : await half(key, "encrypt");
  const token = await new CompactEncrypt(new TextEncoder().encode("for the host"))
    .setProtectedHeader({ alg, enc })
    .encrypt(encrypter);
  const { plaintext } = await compactDecrypt(token, key);
  const broken = await compactDecrypt(`${token.slice(0, -4)}AAAA`, key).then(() => "taken", (error) => error.code);
  return { token, plaintext: text(plaintext), broken };
}

export default {
  async fetch(_request: Request, env: Record<string, CryptoKey>) {
    const out: Record<string, unknown> = {};
    for (const alg of ["RS256", "PS256", "ES256", "ES384", "Ed25519", "HS256"]) out[alg] = await signed(env[alg], alg);
    out.oaep = await sealed(env.OAEP, "RSA-OAEP-256", "A256GCM");
    out.dir = await sealed(env.GCM, "dir", "A256GCM");
    out.wrapped = await sealed(env.GCM, "A256GCMKW", "A128CBC-HS256");
    return Response.json(out);
  },
};
