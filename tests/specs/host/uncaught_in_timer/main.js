// An error in a callback ends the run, whatever else waits.
setTimeout(function later() {
  null.property;
}, 1);
setInterval(() => {}, 1000);
