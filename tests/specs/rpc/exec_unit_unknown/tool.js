console.log("on");
for (;;);
