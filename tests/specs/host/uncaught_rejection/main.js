// A rejection that nobody handles ends the run.
setInterval(() => {}, 1000);
(async () => {
  await null;
  throw { code: 7 };
})();
