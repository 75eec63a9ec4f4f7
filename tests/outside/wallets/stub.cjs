// bcoin wants a database in C++ even where it keeps its chain in memory.
const Module = require("module");
const load = Module._load;
Module._load = function (request, ...rest) {
  return request === "leveldown" ? function () {} : load.call(this, request, ...rest);
};
