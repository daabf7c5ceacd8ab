#!/bin/sh
# Prints node.yaml for each node of a list, one a line:
#     NODE [MACHINE]
# NODE: `node` of the agent. MACHINE: what `kubectl get nodes` calls it, where that differs; the agent
# has to be told then (`[uplink] kubeedge_node`). Empty lines and those that begin with # are skipped.
#
#     sh nodes.sh default < nodes.txt | kubectl create -n default -f -
#
# Nothing is printed when a line is wrong.
set -eu
LC_ALL=C
export LC_ALL
namespace=${1:?"nodes.sh: expected the namespace, as in: sh nodes.sh default < nodes.txt"}
template=$(dirname "$0")/node.yaml
part='[a-z0-9]+(-+[a-z0-9]+)*'

wrong() {
  echo "nodes.sh: line $line: $1" >&2
  exit 1
}

fits() { # TEXT PATTERN LENGTH
  test "${#1}" -le "$3" && printf '%s\n' "$1" | grep -Eqx "$2"
}

one() { # NODE MACHINE
  echo '---'
  grep -v '^#' "$template" |
    sed -e "s/^\( *node_name: \)cart-3\$/\1$2/" -e t -e "s/^\( *nodeName: \)cart-3\$/\1$2/" -e t \
      -e "s/cart-3/$1/g" -e "s/hot-tier\.default\.svc/hot-tier.$namespace.svc/"
}

line=0
fits "$namespace" "$part" 63 || wrong "expected the name of a namespace, got $namespace"
nodes=' ' machines=' ' out=''
between=$(printf ' \t\r')  # a list that was written under Windows has them
while IFS=$between read -r node machine more || test -n "${node:-}"; do
  line=$((line + 1))
  case ${node:-#} in '#'*) continue ;; esac
  test -z "$more" || wrong 'expected NODE [MACHINE], got more'
  machine=${machine:-$node}
  fits "$node" "$part" 63 ||
    wrong "expected a node of at most 63 of a-z, 0-9 and -, no - at an end, got $node"
  fits "$machine" "$part(\\.$part)*" 253 || wrong "expected a name of kubectl get nodes, got $machine"
  case $nodes in *" $node "*) wrong "$node is there already" ;; esac
  case $machines in *" $machine "*) wrong "the machine $machine is there already" ;; esac
  nodes="$nodes$node " machines="$machines$machine "
  out="$out$(one "$node" "$machine")
"
done
test -n "$out" || wrong 'the list has no node'
printf '%s' "$out"
