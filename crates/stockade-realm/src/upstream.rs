//! Corrections to scripts of Deno's that this realm loads, each a text and what takes its place.
//!
//! Invariant: every text to be replaced stands exactly once in the script of the version of Deno's crates
//! that is built with; a test holds that. They are made while the snapshot is, and are part of it.

use std::sync::Arc;

use deno_core::ExtensionFileSource;

/// A file by the end of its name, and its corrections.
type Corrections = (&'static str, &'static [(&'static str, &'static str)]);

const CORRECTIONS: &[Corrections] = &[
    (
        "ext:deno_fetch/22_body.js",
        &[
            (
                "  JSONParse,\n",
                "  JSONParse,\n  ObjectGetOwnPropertyDescriptor,\n",
            ),
            (
                "  PromisePrototypeCatch,\n",
                "  PromisePrototypeCatch,\n  ReflectApply,\n",
            ),
            (
                "  SafeWeakMap,\n",
                "  SafeWeakMap,\n  StringPrototypeCharCodeAt,\n  StringPrototypeSlice,\n  \
                 StringPrototypeToWellFormed,\n",
            ),
            // A stream is a guest's own object, which may have a property `body`.
            (
                "  get stream() {\n",
                "  get staticBody() {\n    const held = this.streamOrStatic;\n    \
                 return ObjectPrototypeIsPrototypeOf(ReadableStreamPrototype, held) ? undefined : held.body;\n  \
                 }\n\n  get stream() {\n",
            ),
            // A body is read into the reader's buffers, too, whatever it was made of.
            (
                "  createReadableStream,\n",
                "  createReadableByteStream,\n  ReadableByteStreamController,\n  \
                 readableByteStreamControllerClose,\n  readableByteStreamControllerEnqueue,\n  \
                 readableByteStreamControllerRespond,\n",
            ),
            (
                "const noop = () => {};\n",
                "const noop = () => {};\nconst { get: byobRequestOf } = ObjectGetOwnPropertyDescriptor(\n  \
                 ReadableByteStreamController.prototype,\n  \"byobRequest\",\n);\n",
            ),
            (
                "        const stream = createReadableStream(\n",
                "        const stream = createReadableByteStream(\n",
            ),
            // A copy, where it is not encoded: what a stream is given is its own.
            (
                "            controller.enqueue(chunkToU8(body));\n            controller.close();\n          },\n          \
                 noopAsync,\n          0,\n",
                "            const bytes = typeof body === \"string\"\n              ? core.encode(body)\n              \
                 : TypedArrayPrototypeSlice(body);\n            \
                 if (TypedArrayPrototypeGetByteLength(bytes) > 0) {\n              \
                 readableByteStreamControllerEnqueue(controller, bytes);\n            }\n            \
                 readableByteStreamControllerClose(controller);\n            \
                 if (ReflectApply(byobRequestOf, controller, []) !== null) {\n              \
                 readableByteStreamControllerRespond(controller, 0);\n            }\n          },\n          \
                 noopAsync,\n",
            ),
            // A text is what its bytes decode to: without a mark of the byte order, and well formed.
            (
                "  return typeof chunk === \"string\" ? chunk : core.decode(chunk);\n",
                "  if (typeof chunk !== \"string\") return core.decode(chunk);\n  \
                 const text = StringPrototypeToWellFormed(chunk);\n  \
                 return StringPrototypeCharCodeAt(text, 0) === 0xfeff ? StringPrototypeSlice(text, 1) : text;\n",
            ),
            (
                "return { extractBody, InnerBody, mixinBody, packageData };\n",
                "return { extractBody, InnerBody, mixinBody, packageData, staticBodyLength };\n",
            ),
        ],
    ),
    (
        "ext:deno_web/09_file.js",
        &[
            ("  op_blob_read_part,\n", "  op_guest_blob_read,\n"),
            // In pieces: who reads a stream wants no copy of the whole.
            (
                "    yield op_blob_read_part(this._id);\n",
                "    for (let start = 0; start < this.size; start += 262144) {\n      \
                 const piece = new Uint8Array(MathMin(this.size - start, 262144));\n      \
                 op_guest_blob_read(this._id, start, piece);\n      yield piece;\n    }\n",
            ),
            // Into the buffer that is given, and not through another one.
            (
                "    const partIterator = toIterator(this[_parts]);\n    let offset = 0;\n    while (true) {\n      \
                 const { value, done } = await AsyncGeneratorPrototypeNext(\n        partIterator,\n      );\n      \
                 if (done) break;\n      const byteLength = TypedArrayPrototypeGetByteLength(value);\n      \
                 if (byteLength > 0) {\n        TypedArrayPrototypeSet(bytes, value, offset);\n        \
                 offset += byteLength;\n      }\n    }\n",
                "    const parts = getPartRefs(this);\n    const buffer = TypedArrayPrototypeGetBuffer(bytes);\n    \
                 let offset = 0;\n    for (let i = 0; i < parts.length; ++i) {\n      \
                 const { _id: id, size } = parts[i];\n      \
                 op_guest_blob_read(id, 0, new Uint8Array(buffer, offset, size));\n      offset += size;\n    }\n",
            ),
        ],
    ),
    (
        "ext:deno_fetch/23_response.js",
        &[
            (
                "  const body = response[_response].body.streamOrStatic?.body;\n",
                "  const body = response[_response].body.staticBody;\n",
            ),
            (
                "  const staticBody = body.streamOrStatic?.body;\n  if (\n",
                "  const staticBody = body.staticBody;\n  if (\n",
            ),
            (
                "  const staticBody = body.streamOrStatic?.body;\n  if (contentType !== null) {\n",
                "  const staticBody = body.staticBody;\n  if (contentType !== null) {\n",
            ),
        ],
    ),
    (
        "ext:deno_fetch/23_request.js",
        &[
            // What a site knows of its client.
            (
                "  if (request.cacheMode !== undefined) cloned.cacheMode = request.cacheMode;\n",
                "  if (ObjectHasOwn(request, \"cf\")) cloned.cf = request.cf;\n  \
                 if (request.cacheMode !== undefined) cloned.cacheMode = request.cacheMode;\n",
            ),
            ("  ObjectKeys,\n", "  ObjectHasOwn,\n  ObjectKeys,\n"),
        ],
    ),
];

/// The script with its corrections; as it is where there are none, or where it cannot be read, which is an
/// error when it is loaded.
pub(crate) fn corrected(file: &ExtensionFileSource) -> ExtensionFileSource {
    let corrections = CORRECTIONS
        .iter()
        .find(|(specifier, _)| *specifier == file.specifier);
    let (Some((_, corrections)), Ok(code)) = (corrections, file.load()) else {
        return file.clone();
    };
    let mut code = code.as_str().to_owned();
    for (from, to) in *corrections {
        code = code.replacen(from, to, 1);
    }
    ExtensionFileSource::new_computed(file.specifier, Arc::from(code))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_to_be_replaced_stand_once_in_the_script() {
        let fetch = deno_fetch::deno_fetch::init(deno_fetch::Options::default());
        let web = deno_web::deno_web::init(
            Arc::new(deno_web::BlobStore::default()),
            None,
            false,
            deno_web::InMemoryBroadcastChannel::default(),
        );
        let all = [fetch.lazy_loaded_js_files, web.lazy_loaded_js_files].concat();
        for (specifier, corrections) in CORRECTIONS {
            let mut files = all.iter();
            let file = files.find(|file| file.specifier == *specifier);
            let code = file.expect("the script is there").load().unwrap();
            for (from, _) in *corrections {
                assert_eq!(
                    code.as_str().matches(from).count(),
                    1,
                    "{specifier}: {from}"
                );
            }
        }
    }
}
