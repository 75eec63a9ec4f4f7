import "./none.js";
