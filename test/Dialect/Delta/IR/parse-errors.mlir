// RUN: %expect-exit 1 delta-opt %s 2>&1 | FileCheck %s

// A use before the loop of a value in it, and an error in the loop: parsing ends
// with the error, and nothing is left that points into the loop.

!S = tensor<?x?xf64, #delta.dims<K, V>>

module {
  %u = arith.mulf %x, %y : f64
  %S = arith.constant 1.0 : f64
  %T = delta.for "n" init(%S0) : !S {
  ^bb0(%j: index, %Sj: !S):
    %x = arith.constant 1.0 : f64
    %y = arith.constant 1.0 : f64
    delta.yield %Sj : !S
  // CHECK: parse-errors.mlir:[[#@LINE+1]]:3: error: redefinition of block '^bb0'
  ^bb0(%i: index, %Si: !S):
    %z = arith.mulf %x, %y : f64
    delta.yield %Si : !S
  }
}
