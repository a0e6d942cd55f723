//! The code samples of every app and way are code: bash, Python and Node read them without running
//! them. One process per language reads all.

use std::io::Write as _;
use std::process::{Command, Stdio};

use countersign::catalog::samples::{Language, request_with};

use crate::{apps, catalog};

/// Reads `[[name, code], …]` from its input, and names what it cannot compile.
const PYTHON: &str = "import json, sys
wrong = []
for name, code in json.load(sys.stdin):
    try:
        compile(code, name, 'exec')
    except SyntaxError as error:
        wrong.append(f'{name}: {error}')
sys.exit('\\n'.join(wrong) or None)
";

const NODE: &str = "const samples = JSON.parse(require('fs').readFileSync(0, 'utf8'));
const wrong = [];
for (const [name, code] of samples) {
  // A sample is a module, where `await` may stand at the top.
  try { new Function(`return async () => {\n${code}\n}`); }
  catch (error) { wrong.push(`${name}: ${error.message}`); }
}
if (wrong.length) { console.error(wrong.join('\\n')); process.exit(1); }
";

/// `bash -n` reads one script, so each sample is a function of its own.
const BASH: &str = "set -u; bash -n /dev/stdin";

fn samples(language: Language) -> Vec<(String, String)> {
    let catalog = catalog();
    let of_app = |app: &std::sync::Arc<countersign::catalog::App>| {
        let one = |auth: &countersign::catalog::Auth| {
            (format!("{}.{}", app.id, auth.id), request_with(app, auth, language))
        };
        app.auths.iter().map(one).collect::<Vec<_>>()
    };
    apps(&catalog).iter().flat_map(of_app).collect()
}

fn check(program: &str, arguments: &[&str], input: &str) {
    let child = Command::new(program)
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn();
    let mut child = child.unwrap_or_else(|error| panic!("{program}: {error}"));
    let mut stdin = child.stdin.take().expect("it is piped");
    stdin.write_all(input.as_bytes()).expect("the program reads");
    drop(stdin);
    let output = child.wait_with_output().expect("it ends");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{program}: {said}");
}

fn as_json(samples: &[(String, String)]) -> String {
    assert!(samples.len() > 2_500, "{} samples", samples.len());
    serde_json::to_string(samples).expect("strings are JSON")
}

#[test]
fn every_sample_for_python_compiles() {
    check("python3", &["-c", PYTHON], &as_json(&samples(Language::Python)));
}

#[test]
fn every_sample_for_node_compiles() {
    check("node", &["-e", NODE], &as_json(&samples(Language::Node)));
}

#[test]
fn every_sample_for_curl_is_one_command_of_a_shell() {
    let samples = samples(Language::Curl);
    let script: String = samples.iter().map(|(_, code)| format!("{code}\n")).collect();
    check("bash", &["-c", BASH], &script);
    for (name, code) in &samples {
        let quotes = code.lines().skip(1).collect::<String>().matches('\'').count();
        assert!(quotes >= 2 && quotes % 2 == 0, "{name}: {code}");
    }
}

/// The checks above see what is broken.
#[test]
#[should_panic(expected = "python3")]
fn a_sample_that_is_no_code_is_seen() {
    check("python3", &["-c", PYTHON], r#"[["broken", "print("]]"#);
}
