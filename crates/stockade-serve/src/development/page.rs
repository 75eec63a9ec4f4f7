//! Pages and texts of errors.

use std::fmt::Write as _;

use stockade_instance::FetchError;

use super::{DevelopmentStatus, LIVE_ELEMENT};

/// Why no code is in use.
pub(super) fn of_problem(problem: &str, html: bool) -> String {
    let title = "The site has no code that works yet";
    let after = "The page loads again when a file changes.";
    render(html, title, &[problem], after)
}

/// Why a request has no response.
pub(super) fn of_failure(status: &DevelopmentStatus, error: &FetchError, html: bool) -> String {
    let (title, stack) = match error {
        FetchError::Threw(error) => {
            let title = match &*error.name {
                "" => error.message.clone(),
                name => format!("{name}: {}", error.message),
            };
            (title, error.stack.clone().unwrap_or_default())
        }
        other => (other.to_string(), String::new()),
    };
    let line = status.excerpt(&stack);
    let line = line.map(|(place, line)| format!("{place}\n\n{line}"));
    let stack = stack.replace("guest:///", "");
    let after = "Clients of `stockade serve` get a page without any of this.";
    let parts = [line.as_deref().unwrap_or_default(), &stack];
    render(html, &title, &parts, after)
}

fn render(html: bool, title: &str, parts: &[&str], after: &str) -> String {
    let parts = parts.iter().filter(|part| !part.is_empty());
    let mut out = String::new();
    if !html {
        let _ = writeln!(out, "{title}");
        for part in parts {
            let _ = writeln!(out, "\n{part}");
        }
        return out;
    }
    out.push_str(
        "<!doctype html>\n<html lang=\"en\">\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width\">\n<title>Error - stockade dev</title>\n\
         <style>:root{color-scheme:light dark}body{font:16px/1.5 system-ui,sans-serif;margin:0;padding:8vh 6vw}\
         h1{font-size:20px;color:#e5484d;white-space:pre-wrap;overflow-wrap:anywhere}\
         pre{font:13px/1.6 ui-monospace,monospace;padding:14px 18px;border-radius:8px;overflow:auto;\
         background:light-dark(#f3f3f5,#1b1b1f)}p{color:light-dark(#666,#999);font-size:14px}</style>\n<h1>",
    );
    escape(&mut out, title);
    out.push_str("</h1>\n");
    for part in parts {
        out.push_str("<pre>");
        escape(&mut out, part);
        out.push_str("</pre>\n");
    }
    out.push_str("<p>");
    escape(&mut out, after);
    out.push_str("</p>");
    out.push_str(LIVE_ELEMENT);
    out
}

/// Appends text so that HTML has it as text, in elements and in quoted attributes.
fn escape(out: &mut String, text: &str) {
    for char in text.chars() {
        match char {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            other => out.push(other),
        }
    }
}
