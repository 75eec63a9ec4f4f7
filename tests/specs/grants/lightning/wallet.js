// A server with the HTTP interface of LNbits that knows the proofs of seven invoices on regtest, which expire in a
// hundred years. The first has 5000 msat, the second 10001 and all others 5000; the last one is its own.

export const INVOICES = [
  "lnbcrt50n1p4tzwuqpp5wtxkappzcsrlkmgfs6g0zyct0hkhashh7hsaxz7e65slq9fkx7fssp5pyysjzgfpyysjzgfpyysjzgfpyysjzgfpyysjzgfpyysjzgfpyysdq8w3jhxaqxq8zals8sqcqpj66wtcwam0573psmhhxnvg3xyd5vg4wmsswgtjt9u2qv5dqgk2app7hgr633jlfkhtvn4u66dd4ms0mcmnfd3cccv0fe5x7fqvv24j6cqz8mcf2",
  "lnbcrt100010p1p4tzwuqpp5wkrhhdqa8ya4lwz9tnnqanvdmgqp6p33vjttzn0607y4v4hwef9qsp5pyysjzgfpyysjzgfpyysjzgfpyysjzgfpyysjzgfpyysjzgfpyysdq8w3jhxaqxq8zals8sqcqpjq8gueq09ekp9p8ukjsw5xhcjrc2hqyn9xrf9a70ecjfpve63kj3x86y4p25gr0lnc7txvgafj32v9rft4753ezm8k9ywftfpv94d9qspf32uqx",
  "lnbcrt50n1p4tzwuqpp5vj92t3telvc08zhhgnvh6mkggrr6jynh5jv6p4uq70nnznk2py9ssp5pyysjzgfpyysjzgfpyysjzgfpyysjzgfpyysjzgfpyysjzgfpyysdq8w3jhxaqxq8zals8sqcqpj3sjxp32nf8xj7fnmztw0mu665ysrrrz387m8kqwxatxgjcm0tacnmzhac9unq4sevw3ar3dgyu7x70juntthf0j48aayy6kelcrdl5gqvnuzg3",
  "lnbcrt50n1p4tzwuqpp5na8mdre7rkkgygp0n2jcrnsthu0hvh0saxkrerzhug8ksk46hrkssp5pyysjzgfpyysjzgfpyysjzgfpyysjzgfpyysjzgfpyysjzgfpyysdq8w3jhxaqxq8zals8sqcqpjjuzd9mss8k9c6sg6xf8hawwuqvjkrkvzu0u7a73k4743r4spfxqj5s5t4gy0lwu24tgealxfe9uxp78l76lpt5xhmvtzfkk5c8s5x8sp56w7gq",
  "lnbcrt50n1p4tzwuqpp5lpyavue9lt8sg9mmce3m9hz5gpgcx8zcnm6cr4qj7t46gjp5ua7qsp5pyysjzgfpyysjzgfpyysjzgfpyysjzgfpyysjzgfpyysjzgfpyysdq8w3jhxaqxq8zals8sqcqpjsuzzzv392ulre7j4ztj4sjnvtee2fsf80nwnwn2uw74lxmve3hszqetkstft3mrm99ceefeh9msnm9a8q0c25s0m545scejsa6xpxeqqzl3gq3",
  "lnbcrt50n1p4tzwuqpp5aqpqs6kk58skk7p49ttjjmf240vrtvd3dklf28s3xkuhc68znkqssp5pyysjzgfpyysjzgfpyysjzgfpyysjzgfpyysjzgfpyysjzgfpyysdq8w3jhxaqxq8zals8sqcqpj274qt5h7eu7sgfj76x7q3q83d35gqnjxucs9sgfm32vym3v0n783jsypw255ddkmp35t49c5e3nxjszmqqxnhfhjqn2k5vggj8erhjsqfyf0rq",
  "lnbcrt50n1p4tzwuqpp5fwcxlrjw8fm3t5sp64eap2jzxa3w2hdt6cdzcq3837jke3kjjnsqsp5pyysjzgfpyysjzgfpyysjzgfpyysjzgfpyysjzgfpyysjzgfpyysdq8w3jhxaqxq8zals8sqcqpjdytj95jcn926sexnztckfr2c7r79t5zpl8wtp0amstnsstnr78yjmtwlpnjwlpdgswqzrgyrsrf9e2y76phttnhlnvwr5ehuh4lh9lspesd385",
];

// Of the main chain.
export const MAINNET = "lnbc10n1p4tzwuqpp5y4uve7rytvk3msgvge00lpp4skts7wn7yg5k4yk264w53x38ypeqsp5pyysjzgfpyysjzgfpyysjzgfpyysjzgfpyysjzgfpyysjzgfpyysdq8w3jhxaqxq8zals8sqcqpjet6yz7fwkwpxpfxnssy8l6uvs7zx2jcrldqqac7kwlj4skakzae3rtfmymaz90h8lsf6jy04m6hl3hlp677k8unnj9sy6eg9xsfwztqqw9nw5m";

export const KEY = "planted-key";

export function serve() {
  const paid = new Map();
  const proof = async (invoice) => {
    const number = INVOICES.indexOf(invoice) + 1;
    const preimage = new Uint8Array(32).fill(number);
    const hash = new Uint8Array(await crypto.subtle.digest("SHA-256", preimage));
    return [hash.toHex(), preimage.toHex()];
  };
  const server = Deno.serve({ hostname: "127.0.0.1", port: 0, onListen() {} }, async (request) => {
    if (request.headers.get("x-api-key") !== KEY) return Response.json({ detail: "Invalid key" }, { status: 401 });
    if (request.method === "GET") {
      const preimage = paid.get(new URL(request.url).pathname.split("/").at(-1));
      const details = { status: "success", amount: -5000, fee: -50, preimage };
      return preimage !== undefined
        ? Response.json({ paid: true, preimage, details })
        : Response.json({ paid: false, details: { status: "pending", amount: 5000 } });
    }
    const { out, bolt11 } = await request.json();
    if (!out) return Response.json({ bolt11: INVOICES.at(-1) }, { status: 201 });
    const [hash, preimage] = await proof(bolt11);
    paid.set(hash, preimage);
    return Response.json({ status: "success", fee: -50, amount: -5000, preimage, bolt11 }, { status: 201 });
  });
  const { port } = server.addr;
  return { port, url: `http://127.0.0.1:${port}`, paid, close: () => server.shutdown() };
}
