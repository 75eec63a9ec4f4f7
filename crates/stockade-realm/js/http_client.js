// Stands in for deno_fetch's `22_http_client.js`: guests have no HTTP client, but `Request` wants to
// know its prototype to recognise one.

(function () {
class HttpClient {}
return { HttpClientPrototype: HttpClient.prototype };
})();
