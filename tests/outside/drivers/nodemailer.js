import nodemailer from "nodemailer";

export default async ({ host, port, tlsPort }) => {
  const send = async (options) => {
    const transport = nodemailer.createTransport({ host, auth: { user: "app", pass: "topsecret" }, ...options });
    const sent = await transport.sendMail({
      from: "a@example.com",
      to: "b@example.com",
      subject: "h\u00e9llo",
      text: "text",
      attachments: [{ filename: "a.bin", content: Buffer.alloc(100_000, 7) }],
    });
    transport.close();
    return sent.accepted;
  };
  return {
    starttls: await send({ port, requireTLS: true }),
    tls: await send({ port: tlsPort, secure: true }),
  };
};
