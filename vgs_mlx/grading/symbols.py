r"""LaTeX commands and the Unicode characters that mean the same: one spelling for `\pi` and π, `\leq` and ≤."""

import re

_SAME = """
α alpha; β beta; γ gamma; δ delta; ε epsilon varepsilon; ζ zeta; η eta; θ theta vartheta; ι iota; κ kappa; λ lambda;
μ mu; ν nu; ξ xi; π pi; ρ rho varrho; σ sigma; τ tau; υ upsilon; φ phi varphi; χ chi; ψ psi; ω omega; Γ Gamma;
Δ Delta; Θ Theta; Λ Lambda; Ξ Xi; Π Pi; Σ Sigma; Φ Phi; Ψ Psi; Ω Omega ohm; × times; · cdot bullet ast; ÷ div; > gt;
< lt; : colon; ± pm; ∓ mp; ≤ le leq leqslant; ≥ ge geq geqslant; ≠ ne neq; ≈ approx; ≡ equiv; ∼ sim;
≅ cong; ∝ propto; ∞ infty; ∅ emptyset varnothing; ∈ in; ∉ notin; ⊂ subset; ⊆ subseteq; ⊃ supset; ⊇ supseteq;
∪ cup bigcup; ∩ cap bigcap; ∖ setminus; ∧ land wedge bigwedge; ∨ lor vee bigvee; ¬ neg lnot; ∀ forall; ∃ exists;
⇒ Rightarrow implies Longrightarrow; ⇔ Leftrightarrow iff Longleftrightarrow; ⇐ Leftarrow;
→ rightarrow to longrightarrow;
← leftarrow gets; ↔ leftrightarrow; ↑ uparrow; ↓ downarrow; ↗ nearrow; ↘ searrow; ↙ swarrow; ↖ nwarrow;
∠ angle; ∡ measuredangle; △ triangle; □ square Box; ⊙ odot; ⊕ oplus; ⊗ otimes; ∥ parallel; ∦ nparallel; ⊥ perp bot;
⟨ langle; ⟩ rangle; ⌊ lfloor; ⌋ rfloor; ⌈ lceil; ⌉ rceil; ℝ R; ℤ Z; ℚ Q; ℕ N; ℂ C;
★ bigstar; ◯ bigcirc; ○ circle; ◇ diamond; ♥ heartsuit; ♠ spadesuit; ♦ diamondsuit; ♣ clubsuit; ✓ checkmark;
… ldots dots cdots dotsc dotsb; ∂ partial; ∇ nabla;
∫ int; ∑ sum; ∏ prod; ℓ ell; † dagger; | lvert rvert vert mid; ‖ lVert rVert Vert
"""
_PAIRS = [each.split() for each in _SAME.split(";")]
_SETS = "ℝℤℚℕℂ"  # \mathbb{R}

UNICODE = {name: pair[0] for pair in _PAIRS for name in pair[1:] if pair[0] not in _SETS}
"""Command without its backslash -> character."""
BOARD = {pair[1]: pair[0] for pair in _PAIRS if pair[0] in _SETS}
"""The letter in `\\mathbb{}` -> character."""
LATEX = {character: "\\" + name for name, character in reversed(UNICODE.items()) if character not in "|…‖<>:"}
"""Character -> command, for a parser of LaTeX."""

FUNCTIONS = (
    "arcsin", "arccos", "arctan", "arccot", "arcsec", "arccsc", "sinh", "cosh", "tanh", "coth", "sin", "cos", "tan",
    "cot", "sec", "csc", "log", "lg", "ln", "exp", "lim", "max", "min", "gcd", "lcm", "det",
)  # fmt: skip
FUNCTION = re.compile(rf"(?<![A-Za-z\\])(?:{'|'.join(FUNCTIONS)})(?![A-Za-z])")
"""A function's name as a word; longer names come first."""
GREEK = "αβγδεζηθικλμνξπρστυφχψωΓΔΘΛΞΠΣΦΨΩ"
