export default {
  fetch: (): Response => new Response("Hello, world!\n"),
};
