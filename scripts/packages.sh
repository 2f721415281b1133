# Sourced by ./demo and ./check: makes sure that Debian packages are there, or says what to install.
#
# need_packages PACKAGE...   installs what is missing through apt, as root or with sudo
# need_vulkan_driver         lavapipe, Mesa's Vulkan driver for the CPU, where the machine has no GPU

packages_build="gcc g++ libc6-dev cmake make flex bison pkg-config libvulkan-dev spirv-tools spirv-headers
  libjansson-dev libutf8proc-dev libxxhash-dev"
packages_test="libcmocka-dev vulkan-validationlayers"

is_installed() { [ "$(dpkg-query -W -f '${db:Status-Status}' "$1" 2>/dev/null)" = installed ]; }

as_root() {
  if [ "$(id -u)" = 0 ]; then "$@"; else sudo "$@"; fi
}

can_install() {
  command -v apt-get >/dev/null 2>&1 || return 1
  [ "$(id -u)" = 0 ] && return 0
  command -v sudo >/dev/null 2>&1 && { [ -t 0 ] || sudo -n true 2>/dev/null; }
}

any_exists() {
  for path in "$@"; do [ -e "$path" ] && return 0; done
  return 1
}
has_vulkan_driver() { any_exists /usr/share/vulkan/icd.d/*.json /etc/vulkan/icd.d/*.json; }
has_gpu() { any_exists /dev/dri/renderD* /dev/nvidia0 /dev/dxg; }

refuse() { # what to do by hand
  case " $* " in
  *mesa-vulkan-drivers*) ;;
  *) has_vulkan_driver || set -- "$@" mesa-vulkan-drivers ;;
  esac
  echo "These packages are needed and cannot be installed from here (no apt, or neither root nor sudo):" >&2
  echo "  $*" >&2
  echo "Install them (on Debian or Ubuntu: apt-get install $*) and run this again." >&2
  exit 1
}

apt_updated=
apt_install() { # [-t RELEASE] PACKAGE...
  if [ -z "$apt_updated" ]; then
    as_root env DEBIAN_FRONTEND=noninteractive apt-get update -qq || echo "apt-get update failed; going on with the lists at hand" >&2
    apt_updated=1
  fi
  as_root env DEBIAN_FRONTEND=noninteractive apt-get install -qq -y --no-install-recommends "$@" >/dev/null
}

need_packages() {
  missing=
  if command -v dpkg-query >/dev/null 2>&1; then
    for p in "$@"; do is_installed "$p" || missing="$missing $p"; done
  else
    for tool in cc c++ cmake make flex bison; do
      command -v "$tool" >/dev/null 2>&1 || missing="$missing $tool"
    done
    [ -z "$missing" ] && return 0
  fi
  [ -z "$missing" ] && return 0
  can_install || refuse $missing
  echo "Installing:$missing"
  apt_install $missing || { echo "apt-get could not install:$missing" >&2; exit 1; }
}

# A machine with a GPU keeps the driver that it has. Without one: lavapipe, on Debian 12 the version from
# bookworm-backports (25.0), which runs compute kernels several times faster than the stock one (22.3).
need_vulkan_driver() {
  has_gpu && has_vulkan_driver && return 0
  command -v dpkg-query >/dev/null 2>&1 || {
    has_vulkan_driver ||
      echo "No Vulkan driver found; install Mesa's (lavapipe runs on the CPU)." >&2
    return 0
  }
  version=$(dpkg-query -W -f '${Version}' mesa-vulkan-drivers 2>/dev/null || true)
  codename=$(. /etc/os-release 2>/dev/null && echo "${VERSION_CODENAME:-}")
  if [ "$codename" != bookworm ]; then
    [ -n "$version" ] || need_packages mesa-vulkan-drivers
    return 0
  fi
  [ -n "$version" ] && dpkg --compare-versions "$version" ge 25 && return 0
  if ! can_install; then
    [ -n "$version" ] || refuse mesa-vulkan-drivers
    echo "Mesa $version is correct but slow at this; 25 is in bookworm-backports (mesa-vulkan-drivers)." >&2
    return 0
  fi
  echo "Installing lavapipe (mesa-vulkan-drivers 25) from bookworm-backports; this adds"
  echo "  /etc/apt/sources.list.d/alphac-backports.list to apt's sources."
  grep -rqs bookworm-backports /etc/apt/sources.list /etc/apt/sources.list.d ||
    echo "deb http://deb.debian.org/debian bookworm-backports main" |
    as_root tee /etc/apt/sources.list.d/alphac-backports.list >/dev/null
  apt_updated=
  apt_install -t bookworm-backports mesa-vulkan-drivers || {
    echo "That failed; the stock lavapipe will do, several times slower." >&2
    apt_install mesa-vulkan-drivers
  }
}

# build DIR [CMAKE OPTION...]: configures, builds what changed
build() {
  dir=$1
  shift
  mkdir -p "$dir"
  cmake -S . -B "$dir" "$@" >"$dir/configure.log" 2>&1 || { cat "$dir/configure.log" >&2; exit 1; }
  cmake --build "$dir" -j "$(nproc)"
}
