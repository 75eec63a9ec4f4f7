use stockade_http::empty_body;

use super::*;
use std::path::Path;
use std::time::{Duration, SystemTime};

struct Site {
    folder: tempfile::TempDir,
    assets: Assets,
}

fn write(folder: &Path, name: &str, data: impl AsRef<[u8]>) {
    let path = folder.join(name);
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(&path, data).unwrap();
    let long_ago = SystemTime::now() - Duration::from_secs(1000);
    std::fs::File::options()
        .write(true)
        .open(&path)
        .unwrap()
        .set_modified(long_ago)
        .unwrap();
}

fn site(change: impl FnOnce(&mut AssetsOptions)) -> Site {
    let folder = tempfile::tempdir().unwrap();
    let inside = folder.path().join("public");
    write(folder.path(), "secret.txt", "secret");
    write(&inside, "index.html", "<h1>home</h1>");
    write(&inside, "a/index.html", "<h1>a</h1>");
    write(&inside, "large.bin", vec![7; 200_000]);
    write(&inside, "text.txt", "0123456789");
    write(&inside, "app.js", "let x = 1;\n".repeat(1000));
    write(&inside, "pre.css", "a{}".repeat(1000));
    write(&inside, "pre.css.gz", "gzipped");
    write(&inside, ".env", "KEY=1");
    write(&inside, "404.html", "not here");
    std::os::unix::fs::symlink("../secret.txt", inside.join("out.txt")).unwrap();
    std::os::unix::fs::symlink("/etc/hostname", inside.join("absolute.txt")).unwrap();
    let text = inside.join("text.txt");
    std::os::unix::fs::symlink(text, inside.join("absolute-in.txt")).unwrap();
    std::os::unix::fs::symlink("text.txt", inside.join("in.txt")).unwrap();
    std::os::unix::fs::symlink("loop", inside.join("loop")).unwrap();
    let mut options = AssetsOptions::new(inside);
    change(&mut options);
    Site {
        assets: Assets::open(options).unwrap(),
        folder,
    }
}

async fn get(site: &Site, path: &str, headers: &[(&str, &str)]) -> (StatusCode, HeaderMap, Bytes) {
    ask(site, Method::GET, path, headers).await
}

async fn ask(
    site: &Site,
    method: Method,
    path: &str,
    headers: &[(&str, &str)],
) -> (StatusCode, HeaderMap, Bytes) {
    let mut request = Request::builder()
        .method(method)
        .uri(format!("http://a{path}"));
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let response = site
        .assets
        .handle(request.body(empty_body()).unwrap())
        .await;
    let (parts, body) = response.into_parts();
    (
        parts.status,
        parts.headers,
        body.collect().await.unwrap().to_bytes(),
    )
}

#[tokio::test]
async fn file_is_sent_with_what_names_it() {
    let site = site(|options| {
        options.cache_control = Some(HeaderValue::from_static("max-age=60"));
        options
            .headers
            .insert("x-own", HeaderValue::from_static("1"));
    });
    let (status, headers, body) = get(&site, "/text.txt", &[]).await;
    assert_eq!(
        (status, &body[..]),
        (StatusCode::OK, b"0123456789".as_slice())
    );
    assert_eq!(headers["content-type"], "text/plain; charset=utf-8");
    assert_eq!(headers["content-length"], "10");
    assert_eq!(headers["accept-ranges"], "bytes");
    assert_eq!(headers["cache-control"], "max-age=60");
    assert_eq!(headers["x-own"], "1");
    let tag = headers["etag"].to_str().unwrap();
    assert!(tag.starts_with('"'), "{tag}");
    let (status, again, body) = get(&site, "/text.txt", &[("if-none-match", tag)]).await;
    assert_eq!((status, body.len()), (StatusCode::NOT_MODIFIED, 0));
    assert_eq!(again["etag"], headers["etag"]);
    let since = headers["last-modified"].to_str().unwrap();
    let (status, ..) = get(&site, "/text.txt", &[("if-modified-since", since)]).await;
    assert_eq!(status, StatusCode::NOT_MODIFIED);
    write(&site.folder.path().join("public"), "text.txt", "changed!!!");
    let (status, _, body) = get(&site, "/text.txt", &[("if-none-match", tag)]).await;
    assert_eq!(
        (status, &body[..]),
        (StatusCode::OK, b"changed!!!".as_slice())
    );
}

#[tokio::test]
async fn folder_is_served_by_its_index() {
    let site = site(|_| {});
    let (_, headers, body) = get(&site, "/", &[]).await;
    assert_eq!(
        (&body[..], &headers["content-type"]),
        (
            b"<h1>home</h1>".as_slice(),
            &HeaderValue::from_static("text/html; charset=utf-8")
        )
    );
    let (_, _, body) = get(&site, "/a/", &[]).await;
    assert_eq!(&body[..], b"<h1>a</h1>");
    let (status, headers, _) = get(&site, "/a?x=1", &[]).await;
    assert_eq!(status, StatusCode::PERMANENT_REDIRECT);
    assert_eq!(headers["location"], "/a/?x=1");
}

#[tokio::test]
async fn nothing_outside_and_nothing_hidden_is_served() {
    let site = site(|_| {});
    for path in [
        "/out.txt",
        "/absolute.txt",
        "/absolute-in.txt",
        "/loop",
        "/.env",
        "/%2eenv",
        "/..%2fsecret.txt",
        "/text.txt/",
        "/text.txt/x",
        "/nothing",
        "/a%00",
        "/public/../secret.txt",
    ] {
        let (status, _, body) = get(&site, path, &[]).await;
        assert_eq!(status, StatusCode::NOT_FOUND, "{path}");
        assert!(body.is_empty());
    }
    let (_, _, body) = get(&site, "/in.txt", &[]).await;
    assert_eq!(&body[..], b"0123456789");
}

#[tokio::test]
async fn part_of_a_file_is_sent() {
    let site = site(|_| {});
    let (status, headers, body) = get(&site, "/text.txt", &[("range", "bytes=2-4")]).await;
    assert_eq!(
        (status, &body[..]),
        (StatusCode::PARTIAL_CONTENT, b"234".as_slice())
    );
    assert_eq!(headers["content-range"], "bytes 2-4/10");
    assert_eq!(headers["content-length"], "3");
    let (status, headers, _) = get(&site, "/text.txt", &[("range", "bytes=10-")]).await;
    assert_eq!(status, StatusCode::RANGE_NOT_SATISFIABLE);
    assert_eq!(headers["content-range"], "bytes */10");
    let (status, ..) = get(
        &site,
        "/text.txt",
        &[("range", "bytes=0-1"), ("if-range", "\"b\"")],
    )
    .await;
    assert_eq!(status, StatusCode::OK);
    let (status, headers, body) = get(&site, "/large.bin", &[("range", "bytes=100000-")]).await;
    assert_eq!((status, body.len()), (StatusCode::PARTIAL_CONTENT, 100_000));
    assert_eq!(headers["content-length"], "100000");
    // A part is of the file itself, not of a compressed form.
    let asked = [("range", "bytes=0-1"), ("accept-encoding", "gzip")];
    let (_, headers, body) = get(&site, "/app.js", &asked).await;
    assert_eq!(&body[..], b"le");
    assert!(!headers.contains_key("content-encoding"));
}

#[tokio::test]
async fn head_is_get_without_content() {
    let site = site(|_| {});
    for path in ["/text.txt", "/large.bin"] {
        let (status, headers, body) =
            ask(&site, Method::HEAD, path, &[("range", "bytes=0-1")]).await;
        let (_, full, whole) = get(&site, path, &[]).await;
        assert_eq!((status, body.len()), (StatusCode::OK, 0));
        assert_eq!(headers, full);
        assert_eq!(headers["content-length"], whole.len().to_string().as_str());
    }
    let (status, headers, _) = ask(&site, Method::POST, "/text.txt", &[]).await;
    assert_eq!(status, StatusCode::METHOD_NOT_ALLOWED);
    assert_eq!(headers["allow"], "GET, HEAD, OPTIONS");
}

#[tokio::test]
async fn text_is_compressed_for_clients_that_take_it() {
    let site = site(|_| {});
    let (_, plain, whole) = get(&site, "/app.js", &[]).await;
    assert_eq!(plain["vary"], "accept-encoding");
    let mut tags = vec![plain["etag"].clone()];
    for (accepted, coding) in [("gzip", "gzip"), ("gzip, br", "br")] {
        for _ in 0..2 {
            let (_, headers, body) = get(&site, "/app.js", &[("accept-encoding", accepted)]).await;
            assert_eq!(headers["content-encoding"], coding);
            assert_eq!(headers["content-length"], body.len().to_string().as_str());
            assert!(body.len() < whole.len() / 10);
            let mut text = Vec::new();
            if coding == "gzip" {
                let mut decoder = async_compression::tokio::bufread::GzipDecoder::new(&body[..]);
                decoder.read_to_end(&mut text).await.unwrap();
            } else {
                let mut decoder = async_compression::tokio::bufread::BrotliDecoder::new(&body[..]);
                decoder.read_to_end(&mut text).await.unwrap();
            }
            assert_eq!(text, whole);
            tags.push(headers["etag"].clone());
        }
    }
    tags.dedup();
    assert_eq!(tags.len(), 3, "each form has its own tag: {tags:?}");
    let (_, headers, _) = get(&site, "/large.bin", &[("accept-encoding", "gzip")]).await;
    assert!(!headers.contains_key("content-encoding"));
}

#[tokio::test]
async fn file_that_was_compressed_beforehand_is_used() {
    let site = site(|options| options.compress = false);
    let (_, headers, body) = get(&site, "/pre.css", &[("accept-encoding", "br, gzip")]).await;
    assert_eq!(
        (&headers["content-encoding"], &body[..]),
        (&HeaderValue::from_static("gzip"), b"gzipped".as_slice())
    );
    assert_eq!(headers["content-type"], "text/css; charset=utf-8");
    let (_, headers, body) = get(&site, "/pre.css", &[]).await;
    assert_eq!(
        (body.len(), &headers["vary"]),
        (3000, &HeaderValue::from_static("accept-encoding"))
    );
    // One that is older than the file is of another version.
    let file = std::fs::File::options()
        .write(true)
        .open(site.folder.path().join("public/pre.css"));
    file.unwrap().set_modified(SystemTime::now()).unwrap();
    let (_, headers, _) = get(&site, "/pre.css", &[("accept-encoding", "gzip")]).await;
    assert!(!headers.contains_key("content-encoding"));
}

#[tokio::test]
async fn fallback_is_sent_where_there_is_no_file() {
    let fallback = |status| {
        site(|options| {
            options.fallback = Some(AssetFallback {
                file: "404.html".to_owned(),
                status,
            })
        })
    };
    let site = fallback(StatusCode::NOT_FOUND);
    let (status, _, body) = get(
        &site,
        "/nothing",
        &[("if-none-match", "*"), ("range", "bytes=0-1")],
    )
    .await;
    assert_eq!(
        (status, &body[..]),
        (StatusCode::NOT_FOUND, b"not here".as_slice())
    );
    let site = fallback(StatusCode::OK);
    let (status, _, body) = get(&site, "/some/route", &[]).await;
    assert_eq!(
        (status, &body[..]),
        (StatusCode::OK, b"not here".as_slice())
    );
}

#[test]
fn folder_that_is_not_there_is_refused() {
    let mut options = AssetsOptions::new("/nonexistent");
    assert!(matches!(
        Assets::open(options.clone()),
        Err(AssetsError::Folder { .. })
    ));
    options.folder = std::env::temp_dir();
    options.fallback = Some(AssetFallback {
        file: "none".to_owned(),
        status: StatusCode::OK,
    });
    assert!(matches!(
        Assets::open(options),
        Err(AssetsError::Fallback { .. })
    ));
}
