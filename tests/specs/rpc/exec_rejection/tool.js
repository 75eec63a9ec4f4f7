Promise.reject(new Error("nobody"));
setInterval(() => {}, 100);
