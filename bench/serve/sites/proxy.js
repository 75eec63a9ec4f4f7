export default {
  fetch(request, env) {
    return fetch(env?.UPSTREAM ?? globalThis.process.env.UPSTREAM);
  },
};
