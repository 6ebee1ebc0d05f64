// o[t] = 2 v[T - 1 - t], by two kernels: the first one doubles 16 tokens a CTA
// into the workspace, behind a part for every sequence that it fills with ones;
// the second one turns them round. The final state is that of ones, zeros without tokens.
#sig = #delta.signature<args = [
    #delta.arg<kind = in, name = "v", type = f32, axes = [V]>,
    #delta.arg<kind = state, name = "S", type = f32, axes = [K, V]>,
    #delta.arg<kind = out, name = "o", type = f32, axes = [V]>],
    dims = {K = 1, V = 32}, options = {target = "sm_80", fn = "forward"}>

module attributes {gpu.container_module, delta.stage = "mapped", delta.signature = #sig} {
  gpu.module @turn attributes {delta.workspace = [
      {bytes = 128 : i64, dims = ["B", "H"]},
      {bytes = 2048 : i64, dims = ["B", "H", "T"], tokens = 16 : i64}]} {
    gpu.func @delta_turn_forward_first(%v: memref<?xf32>, %init: memref<?xf32>,
        %o: memref<?xf32>, %final: memref<?xf32>, %w: memref<?xi8>,
        %B: index, %T: index, %H: index) kernel
        attributes {delta.kernel = {name = "delta_turn_forward_first",
          threads = 32 : i64, shared_bytes = 0 : i64, v_blocks = 1 : i64,
          min_ctas = 1 : i64, tokens = 16 : i64}} {
      %c0 = arith.constant 0 : index
      %c1 = arith.constant 1 : index
      %c16 = arith.constant 16 : index
      %c32 = arith.constant 32 : index
      %c128 = arith.constant 128 : index
      %one = arith.constant 1.0 : f32
      %two = arith.constant 2.0 : f32
      %lane = gpu.thread_id x
      %cta = gpu.block_id x
      %pieces = arith.ceildivui %T, %c16 : index
      %sequence = arith.divui %cta, %pieces : index
      %piece = arith.remui %cta, %pieces : index
      %b = arith.divui %sequence, %H : index
      %h = arith.remui %sequence, %H : index
      %sequences = arith.muli %B, %H : index
      %bytes = arith.muli %sequences, %c128 : index
      %n0 = arith.muli %sequences, %c32 : index
      %ones = memref.view %w[%c0][%n0] : memref<?xi8> to memref<?xf32>
      %all = arith.muli %pieces, %c16 : index
      %rows = arith.muli %sequences, %all : index
      %n1 = arith.muli %rows, %c32 : index
      %tokens = memref.view %w[%bytes][%n1] : memref<?xi8> to memref<?xf32>
      %first = arith.cmpi eq, %piece, %c0 : index
      scf.if %first {
        %base = arith.muli %sequence, %c32 : index
        %at = arith.addi %base, %lane : index
        memref.store %one, %ones[%at] : memref<?xf32>
      }
      %start = arith.muli %piece, %c16 : index
      %behind = arith.addi %start, %c16 : index
      %end = arith.minui %behind, %T : index
      scf.for %t = %start to %end step %c1 {
        %bt = arith.muli %b, %T : index
        %row = arith.addi %bt, %t : index
        %rh = arith.muli %row, %H : index
        %head = arith.addi %rh, %h : index
        %hv = arith.muli %head, %c32 : index
        %from = arith.addi %hv, %lane : index
        %x = memref.load %v[%from] : memref<?xf32>
        %y = arith.mulf %x, %two : f32
        %st = arith.muli %sequence, %all : index
        %to0 = arith.addi %st, %t : index
        %to1 = arith.muli %to0, %c32 : index
        %to = arith.addi %to1, %lane : index
        memref.store %y, %tokens[%to] : memref<?xf32>
      }
      gpu.return
    }
    gpu.func @delta_turn_forward_second(%v: memref<?xf32>, %init: memref<?xf32>,
        %o: memref<?xf32>, %final: memref<?xf32>, %w: memref<?xi8>,
        %B: index, %T: index, %H: index) kernel
        attributes {delta.kernel = {name = "delta_turn_forward_second",
          threads = 32 : i64, shared_bytes = 0 : i64, v_blocks = 1 : i64,
          min_ctas = 1 : i64}} {
      %c0 = arith.constant 0 : index
      %c1 = arith.constant 1 : index
      %c16 = arith.constant 16 : index
      %c32 = arith.constant 32 : index
      %c128 = arith.constant 128 : index
      %lane = gpu.thread_id x
      %sequence = gpu.block_id x
      %pieces = arith.ceildivui %T, %c16 : index
      %b = arith.divui %sequence, %H : index
      %h = arith.remui %sequence, %H : index
      %sequences = arith.muli %B, %H : index
      %bytes = arith.muli %sequences, %c128 : index
      %n0 = arith.muli %sequences, %c32 : index
      %ones = memref.view %w[%c0][%n0] : memref<?xi8> to memref<?xf32>
      %all = arith.muli %pieces, %c16 : index
      %rows = arith.muli %sequences, %all : index
      %n1 = arith.muli %rows, %c32 : index
      %tokens = memref.view %w[%bytes][%n1] : memref<?xi8> to memref<?xf32>
      %some = arith.cmpi ugt, %T, %c0 : index
      %base = arith.muli %sequence, %c32 : index
      %at = arith.addi %base, %lane : index
      %zero = arith.constant 0.0 : f32
      %one = scf.if %some -> f32 {
        %x = memref.load %ones[%at] : memref<?xf32>
        scf.yield %x : f32
      } else {
        scf.yield %zero : f32
      }
      memref.store %one, %final[%at] : memref<?xf32>
      scf.for %t = %c0 to %T step %c1 {
        %before = arith.subi %T, %t : index
        %turned = arith.subi %before, %c1 : index
        %st = arith.muli %sequence, %all : index
        %from0 = arith.addi %st, %turned : index
        %from1 = arith.muli %from0, %c32 : index
        %from = arith.addi %from1, %lane : index
        %x = memref.load %tokens[%from] : memref<?xf32>
        %bt = arith.muli %b, %T : index
        %row = arith.addi %bt, %t : index
        %rh = arith.muli %row, %H : index
        %head = arith.addi %rh, %h : index
        %hv = arith.muli %head, %c32 : index
        %to = arith.addi %hv, %lane : index
        memref.store %x, %o[%to] : memref<?xf32>
      }
      gpu.return
    }
  }
}
