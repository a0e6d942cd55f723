//! The departures of real authorization servers, each as a definition, with what the server must
//! see and what its answer comes to. The numbers are only for finding a quirk again.

use super::trial::{Act, Definition, answered, assert_lines, seen};

struct Quirk {
    name: &'static str,
    definition: Definition,
    act: Act,
    sees: &'static [&'static str],
    answer: (u16, &'static str),
    gives: &'static [&'static str],
}

const CODE: Definition = Definition { kind: "oauth2", auth: "", oauth2: "", properties: &[] };
const MACHINE: Definition = Definition { kind: "oauth2_client_credentials", ..CODE };
const POSTED: Definition = Definition { kind: "token_exchange", ..CODE };
const EXCHANGE: Act = Act::Exchange(&[]);
/// Of no interest where the request is what departs.
const PLAIN: (u16, &str) =
    (200, r#"{"access_token":"at","token_type":"Bearer","expires_in":3600}"#);
const GOOD: &[&str] = &["access=at", "expires in 3600"];

fn check(quirks: &[Quirk]) {
    for Quirk { name, definition, act, sees, answer: (status, body), gives } in quirks {
        let found = seen(definition, *act).unwrap_or_else(|error| panic!("{name}: {error}"));
        assert_lines(name, &found, sees);
        assert_lines(name, &answered(definition, *status, body), gives);
    }
}

#[test]
fn what_comes_back_is_read_as_the_definition_says() {
    check(&[
        Quirk {
            name: "1 GitHub: form-encoded, no expiry",
            definition: Definition { oauth2: "expires_in = \"never\"", ..CODE },
            act: EXCHANGE,
            sees: &["accept: application/json", "client_id=cid", "client_secret=client-secret-1"],
            answer: (200, "access_token=at&scope=repo%2Cgist&token_type=bearer"),
            gives: &["access=at", "never expires", "scopes repo gist", "!refresh"],
        },
        Quirk {
            name: "1 GitHub: errors come with 200",
            definition: Definition { oauth2: "expires_in = \"never\"", ..CODE },
            act: Act::Refresh,
            sees: &["grant_type=refresh_token", "refresh_token=old-refresh-1"],
            answer: (
                200,
                r#"{"error":"bad_refresh_token","error_description":"The refresh token is incorrect."}"#,
            ),
            gives: &["dead bad_refresh_token", "The refresh token is incorrect."],
        },
        Quirk {
            name: "2 GitHub App: the refresh token's own life",
            definition: CODE,
            act: Act::Refresh,
            sees: &["POST https://acme.example/token"],
            answer: (
                200,
                r#"{"access_token":"at","expires_in":28800,"refresh_token":"rt","refresh_token_expires_in":15897600,"scope":"","token_type":"bearer"}"#,
            ),
            gives: &["expires in 28800", "refresh=rt", "refresh expires in 15897600", "!scopes"],
        },
        Quirk {
            name: "3 Slack: ok false, and the user's token below authed_user",
            definition: SLACK,
            act: EXCHANGE,
            sees: &["code=c0de-123"],
            answer: (
                200,
                r#"{"ok":true,"token_type":"bot","authed_user":{"id":"U1","access_token":"at","refresh_token":"rt","expires_in":43200,"scope":"chat:write,users:read"},"team":{"id":"T1"}}"#,
            ),
            gives: &[
                "access=at",
                "refresh=rt",
                "expires in 43200",
                "field team_id=T1",
                "scopes chat:write users:read",
            ],
        },
        Quirk {
            name: "3 Slack: a failure",
            definition: SLACK,
            act: Act::Refresh,
            sees: &[],
            answer: (200, r#"{"ok":false,"error":"invalid_refresh_token"}"#),
            gives: &["dead invalid_refresh_token"],
        },
        Quirk {
            name: "3 Slack: slow down",
            definition: SLACK,
            act: Act::Refresh,
            sees: &[],
            answer: (200, r#"{"ok":false,"error":"ratelimited"}"#),
            gives: &["transient ratelimited"],
        },
        Quirk {
            name: "3 Slack: a refresh is answered elsewhere than the exchange",
            definition: Definition {
                oauth2: "token_types = [\"user\"]\ntoken_fields = { access_token = \"/authed_user/access_token\" }\nrefresh = { token_fields = { access_token = \"/access_token\" } }",
                ..CODE
            },
            act: Act::Refresh,
            sees: &[],
            answer: (
                200,
                r#"{"ok":true,"access_token":"at","refresh_token":"rt","token_type":"user"}"#,
            ),
            gives: &["access=at", "refresh=rt"],
        },
        Quirk {
            name: "4 TikTok: client_key, scopes with commas",
            definition: Definition {
                oauth2: "param_rename = { client_id = \"client_key\" }\nscopes_separator = \",\"",
                ..CODE
            },
            act: Act::Authorize,
            sees: &["?client_key=cid", "!?client_id", "?scope=read,write"],
            answer: (
                200,
                r#"{"access_token":"at","scope":"a,b","expires_in":86400,"open_id":"o"}"#,
            ),
            gives: &["scopes a b"],
        },
        Quirk {
            name: "5 TikTok Business: JSON, own names, nested answer, code 0",
            definition: TIKTOK,
            act: Act::Exchange(&[("auth_code", "c0de-9")]),
            sees: &[
                r#"json {"app_id":"cid","auth_code":"c0de-9","code_verifier":"verifier-123","grant_type":"authorization_code","redirect_uri":"https://cs.example/callback","secret":"client-secret-1"}"#,
            ],
            answer: (
                200,
                r#"{"code":0,"message":"OK","data":{"access_token":"at","scope":[1,2]}}"#,
            ),
            gives: &["access=at", "never expires"],
        },
        Quirk {
            name: "5 TikTok Business: a failure",
            definition: TIKTOK,
            act: Act::Refresh,
            sees: &[],
            answer: (200, r#"{"code":40105,"message":"Access token is incorrect","data":{}}"#),
            gives: &["dead 40105", "Access token is incorrect"],
        },
        Quirk {
            name: "6 WeChat: GET, own names, errcode",
            definition: WECHAT,
            act: EXCHANGE,
            sees: &[
                "GET https://acme.example/token",
                "?appid=cid",
                "?secret=client-secret-1",
                "?code=c0de-123",
                "!client",
            ],
            answer: (
                200,
                r#"{"access_token":"at","expires_in":7200,"refresh_token":"rt","openid":"o","scope":"s"}"#,
            ),
            gives: &["access=at", "refresh=rt", "expires in 7200"],
        },
        Quirk {
            name: "6 WeChat: a failure as text/plain",
            definition: WECHAT,
            act: EXCHANGE,
            sees: &[],
            answer: (200, r#"{"errcode":40030,"errmsg":"invalid refresh_token"}"#),
            gives: &["dead 40030", "invalid refresh_token"],
        },
        Quirk {
            name: "7 Untappd: GET without grant_type",
            definition: Definition {
                oauth2: "token_method = \"GET\"\ntoken_params_drop = [\"grant_type\"]\ntoken_params = { response_type = \"code\" }\ntoken_fields = { access_token = \"/response/access_token\" }",
                ..CODE
            },
            act: EXCHANGE,
            sees: &["GET https://acme.example/token", "?response_type=code", "!?grant_type"],
            answer: (200, r#"{"meta":{"http_code":200},"response":{"access_token":"at"}}"#),
            gives: &["access=at"],
        },
        Quirk {
            name: "8 Withings: an action, an answer below body",
            definition: WITHINGS,
            act: EXCHANGE,
            sees: &["action=requesttoken", "grant_type=authorization_code"],
            answer: (
                200,
                r#"{"status":0,"body":{"userid":1,"access_token":"at","refresh_token":"rt","expires_in":10800}}"#,
            ),
            gives: &["access=at", "refresh=rt", "expires in 10800"],
        },
        Quirk {
            name: "8 Withings: a failure",
            definition: WITHINGS,
            act: Act::Refresh,
            sees: &[],
            answer: (
                200,
                r#"{"status":503,"body":{},"error":"Invalid Params: invalid refresh_token"}"#,
            ),
            gives: &["transient 503"],
        },
        Quirk {
            name: "10 Yammer: the token is in an object",
            definition: Definition {
                oauth2: "token_fields = { access_token = \"/access_token/token\" }",
                ..CODE
            },
            act: EXCHANGE,
            sees: &[],
            answer: (200, r#"{"user":{},"access_token":{"token":"at","user_id":1}}"#),
            gives: &["access=at"],
        },
        Quirk {
            name: "11 Sentry: 201, own names, ISO dates",
            definition: Definition {
                oauth2: "token_content_type = \"json\"\ntoken_fields = { access_token = \"/token\", refresh_token = \"/refreshToken\" }\nexpires_at_field = \"/expiresAt\"",
                ..CODE
            },
            act: EXCHANGE,
            sees: &["content-type: application/json"],
            answer: (
                201,
                r#"{"token":"at","refreshToken":"rt","expiresAt":"2027-01-15T16:00:00.000Z"}"#,
            ),
            gives: &["access=at", "refresh=rt", "expires in 28800"],
        },
        Quirk {
            name: "12 Clover: absolute expiry, refresh elsewhere and without the secret",
            definition: Definition {
                oauth2: "token_params_drop = [\"grant_type\"]\nrefresh_url = \"https://acme.example/v2/refresh\"\ntoken_content_type = \"json\"\nexpires_at_field = \"/access_token_expiration\"\nrefresh = { client_auth = \"none\" }",
                ..CODE
            },
            act: Act::Refresh,
            sees: &[
                "POST https://acme.example/v2/refresh",
                r#"json {"client_id":"cid","refresh_token":"old-refresh-1"}"#,
            ],
            answer: (
                200,
                r#"{"access_token":"at","access_token_expiration":1800001800,"refresh_token":"rt","refresh_token_expiration":1831536000}"#,
            ),
            gives: &["expires in 1800", "refresh=rt"],
        },
        Quirk {
            name: "14 Twitch: scope is a list",
            definition: CODE,
            act: EXCHANGE,
            sees: &[],
            answer: (
                200,
                r#"{"access_token":"at","scope":["a","b"],"token_type":"bearer","expires_in":1}"#,
            ),
            gives: &["scopes a b"],
        },
        Quirk {
            name: "15 LinkedIn: no token_type",
            definition: CODE,
            act: EXCHANGE,
            sees: &[],
            answer: (200, r#"{"access_token":"at","expires_in":5184000}"#),
            gives: &["access=at", "expires in 5184000"],
        },
        Quirk {
            name: "16 Azure v1: expires_in is a text",
            definition: CODE,
            act: EXCHANGE,
            sees: &[],
            answer: (200, r#"{"access_token":"at","expires_in":"3599","token_type":"Bearer"}"#),
            gives: &["expires in 3599"],
        },
        Quirk {
            name: "17 Fiserv: milliseconds",
            definition: Definition { oauth2: "expires_as = \"milliseconds\"", ..CODE },
            act: EXCHANGE,
            sees: &[],
            answer: (200, r#"{"access_token":"at","expires_in":3600000}"#),
            gives: &["expires in 3600"],
        },
        Quirk {
            name: "18 Jobber: no expires_in, but an hour of life",
            definition: Definition { oauth2: "expires_in = 3600", ..CODE },
            act: EXCHANGE,
            sees: &[],
            answer: (200, r#"{"access_token":"at","refresh_token":"rt"}"#),
            gives: &["expires in 3600"],
        },
        Quirk {
            name: "19 Coros: the answer prolongs what is held",
            definition: Definition {
                oauth2: "expires_in = 2592000\nrefresh = { strategy = \"extend\" }\nerror_in_200 = { path = \"/result\", unless = \"0000\", error_path = \"/message\" }",
                ..CODE
            },
            act: Act::Refresh,
            sees: &["refresh_token=old-refresh-1"],
            answer: (200, r#"{"result":"0000","message":"OK"}"#),
            gives: &["access=old-access-1", "expires in 2592000", "!refresh"],
        },
        Quirk {
            name: "20 Salesforce: no expiry, and where the organisation lives",
            definition: SALESFORCE,
            act: EXCHANGE,
            sees: &[],
            answer: (
                200,
                r#"{"access_token":"at","refresh_token":"rt","instance_url":"https://na1.salesforce.com","id":"https://login.salesforce.com/id/1/2","issued_at":"1800000000000","token_type":"Bearer"}"#,
            ),
            gives: &["expires in 7200", "field instance_url=https://na1.salesforce.com"],
        },
        Quirk {
            name: "20 an instance_url of somebody else gets no token",
            definition: SALESFORCE,
            act: EXCHANGE,
            sees: &[],
            answer: (
                200,
                r#"{"access_token":"at","instance_url":"https://salesforce.com.evil.example"}"#,
            ),
            gives: &["client captured_value", "!access"],
        },
        Quirk {
            name: "21 VK: 0 is never",
            definition: Definition { oauth2: "zero_expires_never = true", ..CODE },
            act: EXCHANGE,
            sees: &[],
            answer: (200, r#"{"access_token":"at","expires_in":0}"#),
            gives: &["never expires"],
        },
        Quirk {
            name: "22 monday: nothing expires, nothing is refreshed",
            definition: Definition {
                oauth2: "expires_in = \"never\"\nrefresh = { supported = false }",
                ..CODE
            },
            act: EXCHANGE,
            sees: &[],
            answer: (200, r#"{"access_token":"at","token_type":"Bearer","scope":"me:read"}"#),
            gives: &["never expires", "!refresh"],
        },
        Quirk {
            name: "23 HubSpot: the code is called status",
            definition: Definition {
                oauth2: "error_fields = { code = \"/status\" }\ndead_codes = [\"BAD_REFRESH_TOKEN\"]",
                ..CODE
            },
            act: Act::Refresh,
            sees: &[],
            answer: (
                400,
                r#"{"status":"BAD_REFRESH_TOKEN","message":"missing or unknown refresh token"}"#,
            ),
            gives: &["dead BAD_REFRESH_TOKEN", "missing or unknown refresh token"],
        },
        Quirk {
            name: "24 Zoho: over the limit is a 200",
            definition: CODE,
            act: Act::Refresh,
            sees: &[],
            answer: (200, "Access Denied"),
            gives: &["transient unreadable"],
        },
        Quirk {
            name: "25 a load balancer's empty answer",
            definition: CODE,
            act: Act::Refresh,
            sees: &[],
            answer: (200, ""),
            gives: &["transient unreadable"],
        },
        Quirk {
            name: "25 a byte order mark",
            definition: CODE,
            act: Act::Refresh,
            sees: &[],
            answer: (200, "\u{feff}{\"access_token\":\"at\"}\n"),
            gives: &["access=at"],
        },
        Quirk {
            name: "25 a page",
            definition: CODE,
            act: Act::Refresh,
            sees: &[],
            answer: (502, "<html>error=invalid_grant</html>"),
            gives: &["transient server_error"],
        },
    ]);
}

const SLACK: Definition = Definition {
    oauth2: r#"error_in_200 = { path = "/ok", equals = false, error_path = "/error" }
token_types = ["user", "bot"]
capture = [{ path = "/team/id", as = "team_id" }]
token_fields = { access_token = "/authed_user/access_token", refresh_token = "/authed_user/refresh_token", expires_in = "/authed_user/expires_in", scope = "/authed_user/scope" }"#,
    ..CODE
};
const TIKTOK: Definition = Definition {
    oauth2: r#"token_content_type = "json"
callback_code_param = "auth_code"
param_rename = { client_id = "app_id", client_secret = "secret", code = "auth_code" }
token_fields = { access_token = "/data/access_token" }
error_in_200 = { path = "/code", unless = 0 }
dead_codes = ["40105"]
expires_in = "never""#,
    ..CODE
};
const WECHAT: Definition = Definition {
    oauth2: r#"token_method = "GET"
param_rename = { client_id = "appid", client_secret = "secret" }
error_in_200 = { path = "/errcode", unless = 0 }
error_fields = { message = "/errmsg" }
dead_codes = ["40030"]"#,
    ..CODE
};
const WITHINGS: Definition = Definition {
    oauth2: r#"token_params = { action = "requesttoken" }
refresh_params = { action = "requesttoken" }
token_fields = { access_token = "/body/access_token", refresh_token = "/body/refresh_token", expires_in = "/body/expires_in" }
error_in_200 = { path = "/status", unless = 0 }"#,
    ..CODE
};
const SALESFORCE: Definition = Definition {
    auth: r#"hosts = ["{instance_url}"]
base_url = "{instance_url}/services/data"
fields = [{ name = "instance_url", label = "Instance", secret = false, kind = "url", suffixes = ["salesforce.com"], from = "token_response" }]"#,
    oauth2: r#"expires_in = 7200
capture = [{ path = "/instance_url", as = "instance_url" }]"#,
    ..CODE
};

#[path = "quirks_grant_tests.rs"]
mod grants;
#[path = "quirks_request_tests.rs"]
mod requests;
