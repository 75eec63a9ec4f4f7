// X448 as RFC 7748 has it: the first vector of section 5.2, and the Diffie-Hellman exchange of section 6.2.
const worker = await new V8Sandbox().createIsolate({ cpuLimitMs: 0 });
console.log(await worker.evaluate(`(async () => {
  const bytes = (hex) => Uint8Array.from(hex.match(/../g), (pair) => parseInt(pair, 16));
  const hex = (buffer) => [...new Uint8Array(buffer)].map((byte) => byte.toString(16).padStart(2, "0")).join("");
  // PKCS #8 of RFC 8410 around the 56 bytes of a private key
  const pkcs8 = (key) => bytes("3046020100300506032b656f043a0438" + key);
  const secret = async (privateKey, publicKey) => hex(await crypto.subtle.deriveBits(
    { name: "X448", public: await crypto.subtle.importKey("raw", bytes(publicKey), "X448", false, []) },
    await crypto.subtle.importKey("pkcs8", pkcs8(privateKey), "X448", false, ["deriveBits"]),
    448,
  ));
  const alice = "9a8f4925d1519f5775cf46b04b5800d4ee9ee8bae8bc5565d498c28d" +
    "d9c9baf574a9419744897391006382a6f127ab1d9ac2d8c0a598726b";
  const alicePublic = "9b08f7cc31b7e3e67d22d5aea121074a273bd2b83de09c63faa73d2c" +
    "22c5d9bbc836647241d953d40c5b12da88120d53177f80e532c41fa0";
  const bob = "1c306a7ac2a0e2e0990b294470cba339e6453772b075811d8fad0d1d" +
    "6927c120bb5ee8972b0d3e21374c9c921b09d1b0366f10b65173992d";
  const bobPublic = "3eb7a829b0cd20f5bcfc0b599b6feccf6da4627107bdb0d4f345b430" +
    "27d8b972fc3e34fb4232a13ca706dcb57aec3dae07bdc1c67bf33609";
  const shared = "07fff4181ac6cc95ec1c16a94a0f74d12da232ce40a77552281d282b" +
    "b60c0b56fd2464c335543936521c24403085d59a449a5037514a879d";
  const vector = await secret(
    "3d262fddf9ec8e88495266fea19a34d28882acef045104d0d1aae121700a779c984c24f8cdd78fbff44943eba368f54b29259a4f1c600ad3",
    "06fce640fa3487bfda5f6cf2d5263f8aad88334cbd07437f020f08f9814dc031ddbdc38c19c6da2583fa5429db94ada18aa7a7fb4ef8a086",
  );
  const pair = await crypto.subtle.generateKey("X448", true, ["deriveBits"]);
  const raw = hex(await crypto.subtle.exportKey("raw", pair.publicKey));
  const own = hex(await crypto.subtle.deriveBits({ name: "X448", public: pair.publicKey }, pair.privateKey, 448));
  return [
    vector === "ce3e4ff95a60dc6697da1db1d85e6afbdf79b50a2412d7546d5f239fe14fbaadeb445fc66a01b0779d98223961111e21766282f73dd96b6f",
    await secret(alice, bobPublic) === shared,
    await secret(bob, alicePublic) === shared,
    raw.length === 112 && own.length === 112 && own !== raw,
  ];
})()`));
worker.destroy();
