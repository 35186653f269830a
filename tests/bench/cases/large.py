"""Large configurations, as staunch, nginx and HAProxy write them."""

# The peers that these functions know.
KNOWN = ("staunch", "nginx", "haproxy")


def endpoints(peer: str, addresses: list[str]) -> dict[str, str]:
    """The settings for an upstream with these endpoints."""
    if peer == "staunch":
        return {"endpoints": ", ".join(f'"{a}"' for a in addresses)}
    if peer == "nginx":  # its idle connections are counted for the whole upstream
        return {"upstream_servers": "\n".join(f"server {a};" for a in addresses), "keepalive": "4096"}
    return {"servers": "\n".join(f"    server s{i} {a}" for i, a in enumerate(addresses))}


def hosts(peer: str, names: list[str]) -> dict[str, str]:
    """The settings for a route of its own for each of these hosts, all to the same upstream."""
    if peer == "staunch":
        return {"more": "\n".join(f'[[routes]]\nhosts = ["{n}"]\npath = "/b"\nupstream = "origin"\n' for n in names)}
    if peer == "nginx":
        return {"http_extra": NGINX_NAMES, "more": "\n".join(nginx_server(n, "origin") for n in names)}
    return {"frontend_extra": HAPROXY_MAP, "hosts": "\n".join(f"{n} origin" for n in names)}


def upstreams(peer: str, count: int) -> dict[str, str]:
    """The settings for so many upstreams, each with a host of its own and three endpoints."""
    if peer == "staunch":
        more = (f'[[routes]]\nhosts = ["host-{i}.test"]\nupstream = "u{i}"\n[upstreams.u{i}]\nendpoints = [@endpoints@]\n'
                for i in range(count))
        return {"more": "\n".join(more)}
    if peer == "nginx":
        more = (f"upstream u{i} {{ @upstream_servers@ keepalive 512; }}\n" + nginx_server(f"host-{i}.test", f"u{i}")
                for i in range(count))
        return {"http_extra": NGINX_NAMES, "more": "\n".join(more)}
    return {"frontend_extra": HAPROXY_MAP, "hosts": "\n".join(f"host-{i}.test u{i}" for i in range(count)),
            "more": "\n".join(f"backend u{i}\n    balance roundrobin\n@servers@" for i in range(count))}


NGINX_NAMES = "server_names_hash_max_size 65536;"
HAPROXY_MAP = "use_backend %[req.hdr(host),lower,map(@conf:hosts.map@,origin)]"


def nginx_server(name: str, upstream: str) -> str:
    return f"""server {{
        listen 127.0.0.1:@port@;
        server_name {name};
        location /b/ {{ proxy_pass http://{upstream}; proxy_http_version 1.1; proxy_set_header Connection ""; }}
    }}"""
