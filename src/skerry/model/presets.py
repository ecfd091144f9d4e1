"""The domains behind `include`: what development needs most often. Each entry is as a rule's `domain`."""

from __future__ import annotations

from skerry.model.policy import Preset

PACKAGES = (
    # Debian and Ubuntu
    "deb.debian.org",
    "debian.map.fastlydns.net",
    "security.debian.org",
    "ftp.debian.org",
    "snapshot.debian.org",
    "archive.ubuntu.com",
    "*.archive.ubuntu.com",
    "security.ubuntu.com",
    "ports.ubuntu.com",
    "ppa.launchpadcontent.net",
    # Alpine, Fedora, Rocky, Arch
    "dl-cdn.alpinelinux.org",
    "mirrors.fedoraproject.org",
    "dl.fedoraproject.org",
    "mirrors.rockylinux.org",
    "dl.rockylinux.org",
    "geo.mirror.pkgbuild.com",
    # Python
    "pypi.org",
    "files.pythonhosted.org",
    "conda.anaconda.org",
    "repo.anaconda.com",
    "download.pytorch.org",
    # JavaScript
    "registry.npmjs.org",
    "registry.yarnpkg.com",
    "nodejs.org",
    "jsr.io",
    "npm.jsr.io",
    # Rust, Go, Ruby, Java, PHP, .NET
    "crates.io",
    "index.crates.io",
    "static.crates.io",
    "static.rust-lang.org",
    "sh.rustup.rs",
    "proxy.golang.org",
    "sum.golang.org",
    "go.dev",
    "dl.google.com",
    "rubygems.org",
    "index.rubygems.org",
    "repo.maven.apache.org",
    "repo1.maven.org",
    "plugins.gradle.org",
    "services.gradle.org",
    "repo.packagist.org",
    "api.nuget.org",
)
GIT = (
    "github.com",
    "api.github.com",
    "codeload.github.com",
    "objects.githubusercontent.com",
    "raw.githubusercontent.com",
    "release-assets.githubusercontent.com",
    "media.githubusercontent.com",
    "github-cloud.s3.amazonaws.com",
    "gitlab.com",
    "registry.gitlab.com",
    "bitbucket.org",
    "codeberg.org",
    "salsa.debian.org",
    "git.sr.ht",
)
MODELS = (
    "huggingface.co",
    "hf.co",
    "*.huggingface.co",
    "*.hf.co",
    "modelscope.cn",
    "*.modelscope.cn",
    "registry.ollama.ai",
    "www.kaggle.com",
    "api.kaggle.com",
)

PRESETS: dict[Preset, tuple[str, ...]] = {
    Preset.PACKAGES: PACKAGES,
    Preset.GIT: GIT,
    Preset.MODELS: MODELS,
    Preset.DEV: (*PACKAGES, *GIT, *MODELS),
}

OTHER_RESOLVERS = (
    # A name that browsers ask for before they go around the machine's resolver; denied, they do not.
    "use-application-dns.net",
    "mask.icloud.com",
    "mask-h2.icloud.com",
    "dns.google",
    "dns64.dns.google",
    "8888.google",
    "cloudflare-dns.com",
    "*.cloudflare-dns.com",
    "one.one.one.one",
    "1dot1dot1dot1.cloudflare-dns.com",
    "dns.quad9.net",
    "*.quad9.net",
    "doh.opendns.com",
    "dns.opendns.com",
    "doh.cleanbrowsing.org",
    "dns.adguard.com",
    "dns.adguard-dns.com",
    "*.adguard-dns.com",
    "*.nextdns.io",
    "doh.dns.sb",
    "dns.mullvad.net",
    "doh.mullvad.net",
    "dns.controld.com",
    "*.controld.com",
    "doh.libredns.gr",
    "dns.alidns.com",
    "doh.pub",
)
"""Names of resolvers over HTTPS: denied where names are judged, unless a rule of one's own allows exactly them."""

OTHER_RESOLVER_ADDRESSES = (
    "1.0.0.0/30",
    "1.1.1.0/29",
    "8.8.4.4/32",
    "8.8.8.8/32",
    "9.9.9.0/24",
    "45.90.28.0/22",
    "76.76.2.0/24",
    "76.76.10.0/24",
    "94.140.14.0/23",
    "149.112.112.0/24",
    "185.228.168.0/23",
    "194.242.2.0/24",
    "208.67.220.0/24",
    "208.67.222.0/24",
    "223.5.5.5/32",
    "223.6.6.6/32",
)
"""Where they answer; TCP 443 to these is refused where names are judged."""
