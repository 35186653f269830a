//! What is told about bad configurations, letter for letter.

use super::parse;
use crate::config::Faults;

/// A configuration that is right, and leaves its last table open: a case goes on with line 7.
const GOOD: &str = r#"[[listeners]]
address = ":8080"
[[routes]]
upstream = "a"
[upstreams.a]
endpoints = ["10.0.0.1:80"]
"#;

#[rustfmt::skip]
const BAD: &[(&str, &[&str])] = &[
    ("[server]\nplugin_cache = \"\"", &["8:16: the folder is empty; write `plugin_cache = false` to keep nothing"]),
    ("[server]\nplugin_cache = 3", &["8:16: expected a folder or false, found 3"]),
    ("keepalive = -1", &["7:13: expected a whole number from 0 to 65535, found -1"]),
    (r#"keepalive = "32""#, &[r#"7:13: expected a whole number from 0 to 65535, found "32"; did you mean `32`, without quotes?"#]),
    ("keepalives = 1", &["7:1: unknown key `keepalives`; did you mean `keepalive`?"]),
    (r#"blance = "round-robin""#, &["7:1: unknown key `blance`; did you mean `balance`?"]),
    (r#"balance = "roundrobin""#, &["7:11: there is no plugin `roundrobin`; did you mean `round-robin`?"]),
    (r#"balance = "set-headers""#, &["7:11: `set-headers` is a rewriter, not a balancer; name a balancer, such as `round-robin`"]),
    (r#"balance = { plugin = "round-robin", conf = {} }"#, &["7:37: unknown key `conf`; expected one of `config`, `then`, `plugin`"]),
    ("balance = { config = {} }", &["7:11: missing key `plugin`"]),
    ("balance = 3", &["7:11: expected a plugin's name or a table with a `plugin`, found 3"]),
    (r#"balance = { plugin = "round-robin", config = "x" }"#, &[r#"7:46: expected a table, found "x""#]),
    ("connect_timeout = 5", &[r#"7:19: a duration needs its unit; write `"5s"` or `"5ms"`"#]),
    (r#"connect_timeout = "5""#, &[r#"7:19: a duration needs its unit; write `"5s"` or `"5ms"`"#]),
    (r#"connect_timeout = "5x""#, &[r#"7:19: `5x` is not a duration; write it like "250ms", "30s" or "1m30s""#]),
    (r#"connect_timeout = "0s""#, &["7:19: a zero duration has no meaning here"]),
    (r#"connect_timeout = "5M""#, &[r#"7:19: a duration is at most 30 days; did you mean `"5m"`?"#]),
    (r#"connect_timeout = "off""#, &[r#"7:19: `off` is not a duration; write it like "250ms", "30s" or "1m30s""#]),
    ("connect_timeout = false", &[r#"7:19: expected a duration such as "30s", found false"#]),
    ("read_timeout = 5s", &[r#"7:16: text must be quoted; did you mean `"5s"`?"#]),
    ("keepalive_requests = 0", &["7:22: expected a whole number, at least 1, found 0"]),
    (r#"protocol = "auto""#, &["7:12: without `tls` an endpoint cannot say what it speaks; write \"http1\" or \"http2\""]),
    (r#"protocol = "htp1""#, &["7:12: unknown protocol `htp1`; did you mean `http1`?"]),
    (r#"tls = { ca = 1, crt = "a.pem", cert = "a.pem" }"#, &["7:7: missing key `key`; `cert` needs it", "7:14: expected a string, found 1; did you mean `\"1\"`?", "7:17: unknown key `crt`; did you mean `cert`?"]),
    (r#"passive = { max_fails = -1, fail_timeout = "1500ms" }"#, &["7:25: expected a whole number, at least 0, found -1", "7:44: `fail_timeout` is counted in whole seconds"]),
    (r#"passive = { policy = "envoy", interval = "1s" }"#, &["7:22: unknown policy `envoy`; expected one of `nginx`, `window`, `outlier`"]),
    (r#"passive = { window = "1s", interval = "1s" }"#, &[r#"7:13: `window` is for `policy = "window"`"#, r#"7:28: `interval` is for `policy = "outlier"`"#]),
    (r#"passive = { policy = "window", max_fails = 1, probes = 0, failure_percent = 0, min_requests = 0, statuses = ["6xx"], jitter_percent = 101 }"#, &[r#"7:32: `max_fails` is for `policy = "nginx"`"#, "7:56: expected a whole number from 1 to 1000, found 0", "7:77: expected a whole number from 1 to 100, found 0", "7:95: expected a whole number from 1 to 1000000, found 0", r#"7:110: `6xx` is not a status; write "200", "2xx" or "200-204", from 200 to 599"#, "7:135: expected a whole number from 0 to 100, found 101"]),
    (r#"passive = { policy = "window", window = "0s", base_ejection_time = "30s", max_ejection_time = "20s" }"#, &["7:41: a zero duration has no meaning here", "7:95: the longest ejection is shorter than the first; `max_ejection_time` is at least `base_ejection_time`"]),
    (r#"[upstreams.a.passive]
policy = "outlier"
fail_timeout = "10s"
probes = 3
consecutive_5xx = 0
enforcing_success_rate = 101
max_ejection_percent = -1
consecutive_local_origin_failure = 3
sucess_rate_minimum_hosts = 3"#, &[r#"9:1: `fail_timeout` is for `policy = "nginx"`"#, r#"10:1: `probes` is for `policy = "window"`"#, "11:19: expected a whole number from 1 to 1000000, found 0", "12:26: expected a whole number from 0 to 100, found 101", "13:24: expected a whole number from 0 to 100, found -1", "14:1: `consecutive_local_origin_failure` needs `split_external_local_origin_errors = true`", "15:1: unknown key `sucess_rate_minimum_hosts`; did you mean `success_rate_minimum_hosts`?"]),
    ("slow_start = 30", &[r#"7:14: a duration needs its unit; write `"30s"` or `"30ms"`"#]),
    ("slow_start = true", &[r#"7:14: expected a duration such as "30s", found true"#]),
    (r#"slow_start = { aggression = 0, min_weight_percent = 0 }"#, &["7:14: missing key `window`", "7:29: expected a number above 0, at most 100, found 0", "7:53: expected a whole number from 1 to 100, found 0"]),
    (r#"slow_start = { window = "0s", agression = 1.5 }"#, &["7:25: a zero duration has no meaning here", "7:31: unknown key `agression`; did you mean `aggression`?"]),
    (r#"slow_start = { window = "1s", aggression = "x" }"#, &[r#"7:44: expected a number such as 1.5, found "x""#]),
    ("panic_threshold = 101", &["7:19: expected a whole number from 0 to 100, found 101"]),
    (r#"[upstreams.a.health]
type = "exchange"
send = "a"
send_hex = "0"
expect = ""
expect_regex = "("
service = "x""#, &["10:1: `send_hex` cannot stand beside `send`; expected one of `send`, `send_hex`, and no other", "11:10: nothing is expected; leave the key out to accept any byte", "12:1: `expect_regex` cannot stand beside `expect`; expected one of `expect`, `expect_hex`, `expect_regex`, and no other", "13:1: `service` is for checks of type \"grpc\""]),
    (r#"[upstreams.a.health]
type = "exchange"
send_hex = "00 f"
expect_regex = "(""#, &["9:12: `00 f` is not bytes in hexadecimal; write two digits for each byte, such as \"00 ff\"", "10:16: `(` is not a regular expression: unclosed group"]),
    (r#"[upstreams.a.health]
type = "grpc"
expect = ["2xx"]
send = "x"
headers = { Content-Type = "x", host = "a", "a b" = "c", te = "x" }"#, &["9:1: `expect` is for checks of types \"http\" and \"exchange\"", "10:1: `send` is for checks of type \"exchange\"", "11:13: `content-type` is written by the proxy itself", "11:33: `host` is a key of its own; write `host = \"…\"`", "11:45: `a b` is not a header name", "11:58: `te` is written by the proxy itself"]),
    (r#"[upstreams.a.health]
method = "HEAD"
body = "ok"
port = 0
initial = "drained"
jitter = "60%"
tls = "yes""#, &["9:8: a response to HEAD has no body", "10:8: expected a whole number from 1 to 65535, found 0", "11:11: unknown initial `drained`; expected one of `up`, `down`, `checking`", "12:10: `60%` is not a share of the interval; write it like \"10%\", from 0 to 50", "13:7: expected true, false or a table, found \"yes\""]),
    (r#"[upstreams.a.health]
jitter = 10
fast_interval = "0s"
down_interval = 3
tls = { ca = "", cert = "a.pem", server_name = "a b", roots = true }"#, &["8:10: expected a string, found 10; did you mean `\"10\"`?", "9:17: a zero duration has no meaning here", "10:17: a duration needs its unit; write `\"3s\"` or `\"3ms\"`", "11:7: missing key `key`; `cert` needs it", "11:14: the path is empty", "11:48: `a b` is not a host", "11:55: unknown key `roots`; expected one of `ca`, `cert`, `key`, `server_name`, `verify`"]),
    (r#"[upstreams.a.health]
tls = { verify = false, ca = "a.pem", key = "k.pem" }"#, &["8:7: missing key `cert`; `key` needs it", "8:30: nothing is verified, so that `ca` has no meaning"]),
    (r#"[upstreams.b]
endpoints = ["unix:/run/b.sock"]
[upstreams.b.health]
port = 80"#, &["10:8: `unix:/run/b.sock` is a unix socket and has no port"]),
    (r#"[upstreams.a.health]
type = "htpp""#, &["8:8: unknown type `htpp`; did you mean `http`?"]),
    (r#"[upstreams.a.health]
type = "tcp"
path = "/x""#, &[r#"9:1: `path` is for checks of type "http""#]),
    (r#"[upstreams.a.health]
path = "status"
expect = ["2xx", "999", 200]"#, &["8:8: a path begins with `/`; did you mean `/status`?", r#"9:18: `999` is not a status; write "200", "2xx" or "200-204", from 200 to 599"#, r#"9:25: expected a string, found 200; did you mean `"200"`?"#]),
    (r#"[upstreams.a.health]
rise = 0
method = "get"
host = "a b"
expect = []"#, &["8:8: expected a whole number from 1 to 1000, found 0", "9:10: methods are case-sensitive; did you mean `GET`?", "10:8: `a b` is not a host", "11:10: no status is expected, so that no check passes"]),
    (r#"[upstreams.a.retry]
plugin = "standart""#, &["8:10: there is no plugin `standart`; did you mean `standard`?"]),
    (r#"[upstreams.a.retry]
attempts = 0
timeout = "never""#, &["8:12: expected a whole number from 1 to 100, found 0", "9:11: `never` is not a duration; write `timeout = false` to switch it off"]),
    (r#"[upstreams.a.retry]
budget = { percent = 120, minimum = 3 }
replay_buffer = "64k"
non_idempotent = "yes""#, &["8:22: expected a whole number from 0 to 100, found 120", "8:27: unknown key `minimum`; expected one of `percent`, `min`", r#"9:17: `64k` is not a size; did you mean `"64KiB"`?"#, r#"10:18: expected true or false, found "yes""#]),
    (r#"[upstreams.a.retry]
timeout = "0s"
replay_buffer = 65536"#, &["8:11: a zero duration has no meaning here", r#"9:17: a size needs its unit; write `"64KiB"`"#]),
    ("[upstreams.b]", &["7:1: missing key `endpoints`"]),
    ("[upstreams.b]
endpoints = []", &["8:13: an upstream needs at least one endpoint"]),
    (r#"[upstreams.b]
endpoints = "10.0.0.1:80""#, &[r#"8:13: expected an array, found "10.0.0.1:80"; did you mean `["10.0.0.1:80"]`?"#]),
    (r#"[upstreams.b]
endpoints = ["10.0.0.1"]"#, &["8:14: `10.0.0.1` has no port; did you mean `10.0.0.1:80`?"]),
    (r#"[upstreams.b]
endpoints = ["http://10.0.0.1:8080/x", "https://api"]"#, &["8:14: an endpoint's address has no scheme; did you mean `10.0.0.1:8080`?", "8:40: an endpoint's address has no scheme; did you mean `api:443`?"]),
    (r#"[upstreams.b]
endpoints = ["10.0.0.300:80", "::1:80", "::1", "[::1]", "[::g]:80"]"#, &["8:14: `10.0.0.300` is not a host; an IPv4 address has four numbers from 0 to 255", "8:31: an IPv6 address stands in brackets; did you mean `[::1]:80`?", "8:41: an IPv6 address stands in brackets; did you mean `[::1]:80`?", "8:48: `[::1]` has no port; did you mean `[::1]:80`?", "8:57: `::g` is not an IPv6 address"]),
    (r#"[upstreams.b]
endpoints = ["a:0", "a:99999", "a:", ":80", "a b:80", "a:80/x", "/run/x.sock", "unix:"]"#, &["8:14: `0` is not a port; a port is a number from 1 to 65535", "8:21: `99999` is not a port; a port is a number from 1 to 65535", "8:32: `a` has no port; did you mean `a:80`?", "8:38: `:80` has no host; did you mean `127.0.0.1:80`?", "8:45: `a b` is not a host", "8:55: an endpoint's address has no path; did you mean `a:80`?", "8:65: `/run/x.sock` has no port; did you mean `unix:/run/x.sock`?", "8:80: a unix socket needs its path; write `unix:/path`"]),
    (r#"[upstreams.b]
endpoints = ["a:80", { address = "A:80", weight = 2 }]"#, &["8:22: `A:80` is listed already at 8:14; give it a `weight` instead"]),
    (r#"[upstreams.b]
endpoints = [{ address = "a:80", backup = true }, { address = "b:80", backup = true }]"#, &["8:13: every endpoint is a backup; at least one must be without `backup = true`"]),
    (r#"[upstreams.b]
endpoints = [
  { address = "a:80", weight = 0 },
  { address = "b:80", weight = 65536 },
  { weight = 1 },
  { address = "c:80", max_connections = 0, zone = "", labels = { "x y" = "1", z = 1 } },
  { address = "d:80", bakup = true },
  7,
]"#, &["9:32: a weight is at least 1; write `down = true` to give an endpoint no traffic", "10:32: expected a whole number from 1 to 65535, found 65536", "11:3: missing key `address`", "12:41: expected a whole number, at least 1, found 0", "12:51: a name is not empty; names are made of letters, digits, `-`, `_` and `.`", "12:66: `x y` is not a name; names are made of letters, digits, `-`, `_` and `.`", r#"12:83: expected a string, found 1; did you mean `"1"`?"#, "13:23: unknown key `bakup`; did you mean `backup`?", "14:3: expected an address or a table with an `address`, found 7"]),
    (r#"[upstreams."b c"]
endpoints = ["a:80"]"#, &["7:12: `b c` is not a name; names are made of letters, digits, `-`, `_` and `.`"]),
    ("upstreams.b = 3", &["7:1: unknown key `upstreams`"]),
    (r#"[[routes]]
host = ["x"]
path = "/x"
upstream = "b""#, &["8:1: unknown key `host`; did you mean `hosts`?", "10:12: there is no upstream `b`; expected `a`"]),
    (r#"[[routes]]
path = "/x"
upstream = "apx""#, &["9:12: there is no upstream `apx`; expected `a`"]),
    (r#"[[routes]]
path = "x"
upstream = "a""#, &["8:8: a path begins with `/`; did you mean `/x`?"]),
    (r#"[[routes]]
path = "/x?y"
path_exact = "/y"
upstream = "a""#, &["8:8: a path is matched without its query", "9:1: `path_exact` cannot stand beside `path`; expected one of `path`, `path_exact`, `path_regex`, and no other"]),
    (r#"[[routes]]
path_regex = "^/(v[0-9]+"
upstream = "a""#, &["8:14: `^/(v[0-9]+` is not a regular expression: unclosed group"]),
    (r#"[[routes]]
path = "^/v"
upstream = "a""#, &["8:8: a path begins with `/`; write a regular expression as `path_regex`"]),
    (r#"[[routes]]
path = "/a b"
upstream = "a""#, &["8:8: a path has no ` ` in it; write it percent-encoded"]),
    (r#"[[routes]]
path = "/x""#, &["7:1: a route that does nothing; expected one of `upstream`, `split`, `respond`, `redirect`"]),
    (r#"[[routes]]
path = "/x"
upstream = "a"
respond = { status = 200 }"#, &["10:1: `respond` cannot stand beside `upstream`; expected one of `upstream`, `split`, `respond`, `redirect`, and no other"]),
    (r#"[[routes]]
upstream = "a""#, &["7:1: the route at 3:1 matches the same requests; tell them apart by host, path, method or header"]),
    (r#"[[routes]]
hosts = ["a.example", "A.example:80", "http://b/", "bücher.de", "a..b", "www.*", ".c", "a.example", "*", "c.", "[::1]:80"]
upstream = "a""#, &["8:23: a host is matched without its port; did you mean `A.example`?", "8:39: a host has no scheme; did you mean `b`?", "8:52: `bücher.de` is not a host; write an international name in its ASCII form, `xn--…`", "8:65: `a..b` is not a host", "8:73: `www.*` is not a host; `*` stands for the beginning of a name, as in `*.example.org`, or alone", "8:82: `.c` is not a host; did you mean `*.c`?", "8:88: `a.example` is listed twice", "8:101: `*` matches every host and stands alone", "8:106: `c.` is not a host; did you mean `c`?", "8:112: a host is matched without its port; did you mean `[::1]`?"]),
    (r#"[[routes]]
hosts = []
methods = []
path = "/x"
upstream = "a""#, &["8:9: no host; leave `hosts` out to match every host", "9:11: no method; leave `methods` out to match every method"]),
    (r#"[[routes]]
path = "/x"
methods = ["get", "PO ST", "PUT", "PUT"]
upstream = "a""#, &["9:12: methods are case-sensitive; did you mean `GET`?", "9:19: `PO ST` is not a method", "9:35: `PUT` is listed twice"]),
    (r#"[[routes]]
path = "/x"
headers = { "x y" = "1", x-beta = 1, X-A = "1", x-a = "2", x-b = "a\nb", x-c = " a" }
upstream = "a""#, &["9:13: `x y` is not a header name", r#"9:35: expected a string, found 1; did you mean `"1"`?"#, "9:49: `x-a` is listed twice", "9:66: a header's value has no line break or control character in it", "9:80: a header's value has no space at its ends"]),
    (r#"[[routes]]
path = "/x"
split = []"#, &["9:9: a split needs at least one upstream"]),
    (r#"[[routes]]
path = "/x"
split = [{ upstream = "a", weight = 0 }]"#, &["9:9: every weight of the split is 0"]),
    (r#"[[routes]]
path = "/x"
split = [{ upstream = "a" }, { upstream = "a", wieght = 3 }, { weight = 1 }, "a"]"#, &["9:43: an upstream that is in this split already; give it one share with the sum of the weights", "9:48: unknown key `wieght`; did you mean `weight`?", "9:62: missing key `upstream`", r#"9:78: expected a table, found "a""#]),
    (r#"[[routes]]
path = "/x"
respond = { status = 99, headers = { content-length = "3", "a:" = "x" }, body = 3 }"#, &["9:22: expected a whole number from 200 to 599, found 99", "9:38: `content-length` is written by the proxy itself", "9:60: `a:` is not a header name", r#"9:81: expected a string, found 3; did you mean `"3"`?"#]),
    (r#"[[routes]]
path = "/x"
respond = { status = 204, body = "x" }"#, &["9:34: a response with status 204 has no body"]),
    (r#"[[routes]]
path = "/x"
redirect = { status = 300 }"#, &["9:12: missing key `to`", "9:23: 300 is not a redirection; expected one of 301, 302, 303, 307, 308"]),
    (r#"[[routes]]
path = "/x"
redirect = { to = "https://$hots$uri", code = 301 }"#, &["9:19: there is no variable `$hots`; did you mean `$host`?", "9:40: unknown key `code`; expected one of `status`, `to`"]),
    (r#"[[routes]]
path = "/x"
upstream = "a"
rewrite = "set-headers"
timeout = "off""#, &[r#"10:11: expected an array, found "set-headers"; did you mean `["set-headers"]`?"#, "11:11: `off` is not a duration; write `timeout = false` to switch it off"]),
    (r#"[[routes]]
path = "/x"
upstream = "a"
rewrite = ["set-header", "round-robin", { config = {} }]
timeout = true"#, &["10:12: there is no plugin `set-header`; did you mean `set-headers`?", "10:26: `round-robin` is a balancer, not a rewriter; name a rewriter, such as `set-headers`", "10:41: missing key `plugin`", "11:11: expected a duration or false, found true"]),
    (r#"[[routes]]
path = "/x"
upstream = "a"
fallback = [
  { upstream = "b" },
  { upstream = "a" },
  { on = ["timout", "6xx", "oops", 502, "no_endpoint"], respond = { status = 99 } },
  { on = [], file = "/etc/staunch/no-such-page.html" },
  { on = ["error"] },
  { respond = {}, file = "x" },
  { file = "" },
  7,
]"#, &["11:16: there is no upstream `b`; expected `a`", "12:16: the upstream of the route itself", "13:11: there is no condition `timout`; did you mean `timeout`?", r#"13:21: `6xx` is not a status; write "200", "2xx" or "200-204", from 200 to 599"#, r#"13:28: there is no condition `oops`; expected one of `error`, `timeout`, `no_endpoint`, `breaker_open`, `overload`, or a status such as "502" or "5xx""#, r#"13:36: expected a string, found 502; did you mean `"502"`?"#, "13:78: expected a whole number from 200 to 599, found 99", "14:10: no condition, so that it is never used", "14:21: cannot read /etc/staunch/no-such-page.html: No such file or directory (os error 2)", "15:3: a fallback that does nothing; expected one of `upstream`, `respond`, `file`", "16:19: `file` cannot stand beside `respond`; expected one of `upstream`, `respond`, `file`, and no other", "17:12: the path is empty", "18:3: expected a table, found 7"]),
    (r#"[[routes]]
path = "/x"
respond = {}
fallback = [{ upstream = "a" }]"#, &["10:12: a route without an upstream has nothing to fall back from"]),
    (r#"[server]
error_pages = { "404" = "/etc/staunch", "5xx" = { file = "/etc/staunch/none" }, "399" = { body = "x" }, "600" = { body = "x" }, "500" = {}, "501" = 3, "502" = { body = "x", statuz = 1 }, intercept = "yes" }"#, &["8:25: cannot read /etc/staunch: No such file or directory (os error 2)", "8:58: cannot read /etc/staunch/none: No such file or directory (os error 2)", "8:81: an error's status is from 400 to 599", r#"8:105: `600` is not a status; write "200", "2xx" or "200-204", from 200 to 599"#, "8:137: an error page with nothing on it; expected one of `file`, `body`", "8:149: expected a file's path or a table with a `file` or a `body`, found 3", "8:174: unknown key `statuz`; did you mean `status`?", r#"8:200: expected true or false, found "yes""#]),
    (r#"[server]
maintenance = { on = 1, allow = ["10.0.0.0/33", 7, "localhost"], retry_after = "soon", respond = {}, file = "x", why = "" }"#, &["8:22: expected true or false, found 1", r#"8:34: `10.0.0.0/33` is not a network; write it like "10.0.0.0/8", "2001:db8::/32" or "192.0.2.1""#, r#"8:49: expected a string, found 7; did you mean `"7"`?"#, r#"8:52: `localhost` is not a network; write it like "10.0.0.0/8", "2001:db8::/32" or "192.0.2.1""#, r#"8:80: `soon` is not a duration; write it like "250ms", "30s" or "1m30s""#, "8:102: `file` cannot stand beside `respond`; expected one of `respond`, `file`, and no other", "8:114: unknown key `why`; expected one of `on`, `retry_after`, `respond`, `file`, `allow`"]),
    (r#"[server]
trusted_proxies = ["10.0.0.0/33", 7, "unix:/run/x.sock", "unix:"]
trusted_header = "x-real-ip"
forwarded = "rfc7238""#, &[r#"8:20: `10.0.0.0/33` is not a network; write it like "10.0.0.0/8", "2001:db8::/32" or "192.0.2.1""#, r#"8:35: expected a string, found 7; did you mean `"7"`?"#, r#"8:38: who connects to a unix socket has no path; write "unix:" to trust all that connect to unix sockets"#, "9:18: unknown trusted_header `x-real-ip`; expected one of `x-forwarded-for`, `forwarded`", "10:13: unknown forwarded `rfc7238`; did you mean `rfc7239`?"]),
    (r#"[server]
trusted_proxies = "10.0.0.0/8""#, &[r#"8:19: expected an array, found "10.0.0.0/8"; did you mean `["10.0.0.0/8"]`?"#]),
    (r#"[server]
trusted_header = "forwarded""#, &["8:18: `trusted_header` does nothing without `trusted_proxies`"]),
    (r#"[server]
maintenance = "yes""#, &[r#"8:15: expected true, false or a table, found "yes""#]),
    (r#"[[routes]]
name = "one"
path = "/x"
upstream = "a"
[[routes]]
name = "one"
path = "/y"
upstream = "a""#, &["12:8: the route at 8:8 has this name too"]),
    (r#"[routes.x]
upstream = "a""#, &["7:9: unknown key `x`; expected one of `name`, `hosts`, `path`, `path_exact`, `path_regex`, `methods`, `headers`, `rewrite`, `rate_limit`, `concurrency_limit`, `priority`, `upstream`, `split`, `respond`, `redirect`, `timeout`, `fallback`, `error_pages`, `maintenance`"]),
    ("[server]
workers = 0", &["8:11: expected a whole number from 1 to 1024, found 0"]),
    (r#"[server]
client_min_rate = "0B""#, &[r#"8:19: expected a size from 1B to 1GiB, found "0B""#]),
    (r#"[server]
client_min_rate = 500"#, &[r#"8:19: a size needs its unit; write `"500B"`, `"500KiB"` or `"500MiB"`"#]),
    (r#"[server]
workers = "all"
drain_timeout = "1 fortnight"
max_header_size = "1GiB"
max_headers = 0
max_target_size = "lots"
max_body_size = 10"#, &[r#"8:11: expected a number of threads or "auto", found "all""#, r#"9:17: `1 fortnight` is not a duration; write it like "250ms", "30s" or "1m30s""#, r#"10:19: expected a size from 1KiB to 16MiB, found "1GiB""#, "11:15: expected a whole number from 1 to 4096, found 0", r#"12:19: `lots` is not a size; write it like "512B", "64KiB" or "8MiB""#, r#"13:17: a size needs its unit; write `"10B"`, `"10KiB"` or `"10MiB"`"#]),
    (r#"[server]
client_timeout = "5s""#, &["8:1: unknown key `client_timeout`; did you mean `client_body_timeout`?"]),
    (r#"[admin]
address = "0.0.0.0:9900""#, &[r#"8:11: an address that others can reach needs a `token`; add `token = "${STAUNCH_ADMIN_TOKEN}"`"#]),
    (r#"[admin]
address = "127.0.0.1:8080"
token = "a b""#, &["8:11: `127.0.0.1:8080` is taken by the listener on `0.0.0.0:8080`", "9:9: a token has only ASCII letters, digits and punctuation in it"]),
    (r#"[admin]
token = """#, &["7:1: missing key `address`", "8:9: the token is empty"]),
    (r#"[admin]
address = "127.0.0.1:9900"
token = "${UNSET_TOKEN}""#, &["9:9: the environment variable `UNSET_TOKEN` is not set; set it, or write `$${UNSET_TOKEN}` for the text itself"]),
    (r#"[access_log]
path = ""
format = "jsn""#, &["8:8: the path is empty; write `-` for standard output", "9:10: unknown format `jsn`; did you mean `json`?"]),
    (r#"[[listeners]]
address = "0.0.0.0:8080""#, &["8:11: `0.0.0.0:8080` is listened on already at 2:11"]),
    (r#"[[listeners]]
address = "localhost:80"
[[listeners]]
address = "http://127.0.0.1:80/"
[[listeners]]
address = "8081"
[[listeners]]
address = "127.0.0.1"
[[listeners]]
address = "*:80"
[[listeners]]
address = "/run/x.sock"
[[listeners]]
address = "::1:80"
[[listeners]]
address = "127.0.0.1:99999"
[[listeners]]
adress = "127.0.0.1:99""#, &["8:11: `localhost:80` is not an address to listen on; did you mean `127.0.0.1:80`?", "10:11: `http://127.0.0.1:80/` is not an address to listen on; did you mean `127.0.0.1:80`?", "12:11: `8081` is not an address to listen on; did you mean `:8081`?", "14:11: `127.0.0.1` is not an address to listen on; did you mean `127.0.0.1:8080`?", "16:11: `*:80` is not an address to listen on; did you mean `0.0.0.0:80`?", "18:11: `/run/x.sock` is not an address to listen on; did you mean `unix:/run/x.sock`?", "20:11: `::1:80` is not an address to listen on; did you mean `[::1]:80`?", "22:11: `127.0.0.1:99999` is not an address to listen on; write an IP address and a port like `127.0.0.1:8080` or `[::1]:8080`, or `unix:/path`", "23:1: missing key `address`", "24:1: unknown key `adress`; did you mean `address`?"]),
    (r#"[[listeners]]
address = "127.0.0.1:443"
protocol = "tcp"
upstream = "b"
proxy_protocol = { from = ["10.0.0.0/33"], timeout = "0s" }
responses = 1
redirect_https = true"#, &["10:12: there is no upstream `b`; expected `a`", "11:28: `10.0.0.0/33` is not a network; write it like \"10.0.0.0/8\", \"2001:db8::/32\" or \"192.0.2.1\"", "11:54: a zero duration has no meaning here", "12:1: `responses` belongs to UDP", "13:1: `redirect_https` belongs to listeners with `protocol = \"http\"`"]),
    (r#"[[listeners]]
address = "127.0.0.1:443"
protocol = "tcp""#, &["7:1: a listener for TCP that leads nowhere; add `upstream = \"NAME\"`, or `sni = [{ hosts, upstream }]`"]),
    (r#"[[listeners]]
address = "127.0.0.1:443"
protocol = "tcp"
sni = [{ hosts = ["*", "a.b", "a.b"], upstream = "a" }, { hosts = [], upstream = "a" }, { upstream = "a" }]"#, &["10:19: `*` is not a name; the listener's own `upstream` takes whatever matches no name", "10:31: `a.b` is listed twice", "10:67: no name", "10:89: missing key `hosts`"]),
    (r#"[[listeners]]
address = "unix:/run/dns"
protocol = "udp"
upstream = "a"
sni = []
proxy_protocol = true
backlog = 5
max_sessions = 0"#, &["8:11: UDP has no unix sockets; write an IP address and a port", "11:1: `sni` belongs to TCP", "12:1: `proxy_protocol` belongs to TCP", "13:1: `backlog` is for connections, and UDP has none", "14:16: expected a whole number from 1 to 10000000, found 0"]),
    (r#"[[listeners]]
address = ":53"
protocol = "udp""#, &["7:1: missing key `upstream`"]),
    (r#"[[listeners]]
address = ":80"
upstream = "a"
idle_timeout = "5s"
tcp_keepalive = 3"#, &["9:1: `upstream` belongs to listeners with `protocol = \"tcp\"` or `\"udp\"`", "10:1: `idle_timeout` belongs to listeners with `protocol = \"tcp\"` or `\"udp\"`", "11:17: expected true, false or a table, found 3"]),
    (r#"[[listeners]]
address = ":80"
protocol = "smtp"
upstream = "a""#, &["9:12: unknown protocol `smtp`; expected one of `http`, `tcp`, `udp`"]),
    (r#"bind = "10.0.0.1:0"
send_proxy_protocol = "v3"
tcp_keepalive = { count = 128 }"#, &["7:8: `10.0.0.1:0` is not an address to connect from; write it like \"192.0.2.1\" or \"2001:db8::1\", without a port", "8:23: unknown send_proxy_protocol `v3`; did you mean `v1`?", "9:27: expected a whole number from 1 to 127, found 128"]),
    (r#"[[listeners]]
address = "127.0.0.1:443"
tls = true"#, &[r#"9:7: expected a table, found true; write `{ certificates = [{ cert = "a.pem", key = "a.key" }] }`"#]),
    (r#"[[listeners]]
address = "127.0.0.1:443"
redirect_https = { port = 0, status = 303, other = 1 }
[listeners.tls]
certificates = [{ cert = "a.pem" }, 3, { cert = "", key = "a.key", oscp = "x" }]
client_auth = "optional"
client_headers = true
min_version = "1.1"
handshake_timeout = 5
max_vesion = "1.3""#, &["9:18: who comes here has TLS already, so that `redirect_https` would go round in a circle", "9:27: expected a whole number from 1 to 65535, found 0", "9:39: a redirect to the same path has no status 303; expected one of `301`, `302`, `307`, `308`", "9:44: unknown key `other`; expected one of `port`, `status`, `except_acme`", "11:17: missing key `key`", "11:37: expected a table with `cert` and `key`, or a file that holds both, found 3", "11:49: the path is empty", "11:68: unknown key `oscp`; did you mean `ocsp`?", "12:15: `client_auth` has no meaning without `client_ca`: clients are asked for nothing", "13:18: `client_headers` has no meaning without `client_ca`: clients are asked for nothing", "14:15: TLS 1.1 is broken and not spoken (RFC 8996); expected one of `1.2`, `1.3`", "15:21: a duration needs its unit; write `\"5s\"` or `\"5ms\"`", "16:1: unknown key `max_vesion`; did you mean `max_version`?"]),
    (r#"[[listeners]]
address = "127.0.0.1:443"
tls = { certificates = [], min_version = "1.3", max_version = "1.2", client_auth = "maybe", client_ca = "ca.pem" }
[[listeners]]
address = "127.0.0.1:444"
tls = { client_ca = "ca.pem" }"#, &[r#"9:24: a listener with TLS needs a certificate; write `{ certificates = [{ cert = "a.pem", key = "a.key" }] }`"#, "9:63: no version is from `min_version` to `max_version`", "9:84: unknown client_auth `maybe`; expected one of `required`, `optional`", "12:7: missing key `certificates`"]),
    (r#"[listener]
address = ":8081""#, &["7:2: unknown key `listener`; did you mean `listeners`?"]),
    (r#"[plugins.round-robin]
path = "x.wasm""#, &["8:1: `path` is not for a built-in plugin: give a plugin of your own another name"]),
    (r#"[plugins.mine]
sha256 = "abc"
deadline = "0ms"
memory = "1KiB"
on_failure = "fall-back"
config = 3
cpu = "5"
watch = "yes"
probation = "off"
pth = "x""#, &["7:1: missing key `path`", "8:10: a SHA-256 digest has 64 hexadecimal digits; `sha256sum FILE` prints it", "9:12: a zero duration has no meaning here", r#"10:10: expected a size from 64KiB to 4GiB, found "1KiB""#, "11:14: unknown on_failure `fall-back`; did you mean `fallback`?", "12:10: expected a table, found 3", r#"13:7: `5` is not a share; write it like "5%" or "0.5%""#, r#"14:9: expected true or false, found "yes""#, "15:13: `off` is not a duration; write `probation = false` to switch it off", "16:1: unknown key `pth`; did you mean `path`?"]),
    (r#"[plugins.mine]
path = """#, &["8:8: the path is empty"]),
    (r#"[plugins.mine]
path = "x.wasm"
on_failure = "skip"
[upstreams.b]
endpoints = ["a:80"]
balance = "mine""#, &[r#"7:1: `on_failure = "skip"` is for a rewriter, and `mine` is used as a balancer; expected `fallback`"#]),
    ("plugins = []", &["7:1: unknown key `plugins`"]),
    (r#"[cache]
size = "1MiB""#, &["7:2: unknown key `cache`; expected one of `server`, `admin`, `access_log`, `listeners`, `plugins`, `upstreams`, `routes`"]),
    ("[upstreams.a]", &["7:12: duplicate key `a`"]),
    (r#"[admin]
address = "127.0.0.1:8080""#, &["8:11: `127.0.0.1:8080` is taken by the listener on `0.0.0.0:8080`"]),
    (r#"[[routes]]
path = "/x"
upstream = "a"
headers = { X-Beta = "1" }
methods = ["GET", "PUT"]
hosts = ["b.example", "A.example"]
[[routes]]
path = "/x/"
methods = ["PUT", "GET"]
hosts = ["a.example"]
headers = { x-beta = "1" }
respond = { body = "x" }"#, &["13:1: the route at 7:1 matches the same requests; tell them apart by host, path, method or header"]),
    ("[server
workers = 0", &["7:8: unclosed table; expected `]`"]),
    ("retry = { attempts = 1
[server]
workers = 0", &["7:9: unclosed inline table; expected `}`"]),
    (r#"keepalive =
connect_timeout = "5 s"
read_timeout = 'x
send_timeout = "x""#, &["7:12: missing value", "9:18: invalid literal string; expected `'`", r#"10:16: `x` is not a duration; write it like "250ms", "30s" or "1m30s""#]),
    (r#"balance: "x"
keepalive = -1
[server]
workers = 0"#, &["7:8: invalid unquoted key; expected letters, numbers, `-`, `_`"]),
    (r#"[plugins.mine]
path = """
a
[server]
workers = 0"#, &["8:8: unclosed multi-line string"]),    (r#"[[routes]]
host = ["x.example"]
upstream = "a"
[[routes]]
hosts = ["::1", "[0::1]", "[::1]"]
upstream = "a""#, &["8:1: unknown key `host`; did you mean `hosts`?", "11:10: an IPv6 address stands in brackets; did you mean `[::1]`?", "11:27: `[::1]` is listed twice"]),
];

#[test]
fn every_fault_is_told_with_its_place_and_what_would_be_right() {
    for (case, expected) in BAD {
        assert_eq!(told(parse(&format!("{GOOD}{case}"))), *expected, "for {case}");
    }
}

#[test]
fn a_file_without_the_necessary_tables_is_told_what_is_missing() {
    for (text, expected) in [
        ("", vec!["1:1: no listener; add `[[listeners]]` with `address = \"127.0.0.1:8080\"`"]),
        (
            "[upstreams.a]\nendpoints = ['a:80']\n[[listeners]]\naddress = ':80'",
            vec!["1:1: no route leads to an upstream; add `[[routes]]` with `upstream = \"a\"`"],
        ),
        (
            "listeners = []\n[listener]\n[upstream.a]",
            vec![
                "1:13: no listener; add `[[listeners]]` with `address = \"127.0.0.1:8080\"`",
                "2:2: unknown key `listener`; did you mean `listeners`?",
                "3:2: unknown key `upstream`; did you mean `upstreams`?",
            ],
        ),
        (
            "[listeners]\naddress = ':80'",
            vec!["1:1: expected an array of tables, found a table; write `[[listeners]]`"],
        ),
        (
            "upstreams = 1\nplugins = 'x'\nserver = []\nadmin = true\n[[listeners]]\naddress = ':80'",
            vec![
                "1:13: expected a table, found 1",
                "2:11: expected a table, found \"x\"",
                "3:10: expected a table, found an array",
                "4:9: expected a table, found true",
            ],
        ),
    ] {
        assert_eq!(told(parse(text)), expected, "for {text}");
    }
}

#[test]
fn all_faults_of_a_file_are_told_at_once_and_in_order() {
    let text = r#"[server]
workers = 0
drain_timeout = "30"
[[listeners]]
address = "localhost"
[[routes]]
hosts = ["a.example:80"]
upstream = "apj"
timout = "5s"
[upstreams.api]
balance = "round-robbin"
endpoints = ["10.0.0.1"]
[upstreams.api.retry]
attempts = three
budget = { percent = 101 }
[plugins.mine]
path = "${NOWHERE}"
"#;

    assert_eq!(
        told(parse(text)),
        [
            "2:11: expected a whole number from 1 to 1024, found 0",
            "3:17: a duration needs its unit; write `\"30s\"` or `\"30ms\"`",
            "5:11: `localhost` is not an address to listen on; write an IP address and a port like `127.0.0.1:8080` or \
             `[::1]:8080`, or `unix:/path`",
            "7:10: a host is matched without its port; did you mean `a.example`?",
            "8:12: there is no upstream `apj`; did you mean `api`?",
            "9:1: unknown key `timout`; did you mean `timeout`?",
            "11:11: there is no plugin `round-robbin`; did you mean `round-robin`?",
            "12:14: `10.0.0.1` has no port; did you mean `10.0.0.1:80`?",
            "14:12: text must be quoted; did you mean `\"three\"`?",
            "15:22: expected a whole number from 0 to 100, found 101",
            "17:8: the environment variable `NOWHERE` is not set; set it, or write `$${NOWHERE}` for the text itself",
        ]
    );
}

#[test]
fn nothing_is_said_to_be_missing_that_a_mistake_of_syntax_may_hide() {
    let text = "[[listeners]]\naddress = ':80'\n[[routes]]\nupstream = 'api'\n[upstreams.api\nendpoints = ['a:80']\n";

    assert_eq!(told(parse(text)), ["5:15: unclosed table; expected `]`"]);
}

/// The faults, a line for each.
fn told(result: Result<crate::config::Config, Faults>) -> Vec<String> {
    let faults = result.err().map(|faults| faults.faults).unwrap_or_default();
    faults.iter().map(ToString::to_string).collect()
}
