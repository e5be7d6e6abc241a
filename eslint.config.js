import js from '@eslint/js'
import ts from 'typescript-eslint'

export default ts.config(
  // ESLint ignores the files in .ci/consumer and test/interop/types, because they import packages that only the scripts
  // .ci/check-package and .ci/interop install. These scripts also compile the files.
  { ignores: ['**/dist/', '.tap/', '.stryker/', '.ci/consumer/*.ts', 'test/interop/types/'] },
  js.configs.recommended,
  { files: ['test/interop/**/*.js'], languageOptions: { globals: { fetch: 'readonly' } } },
  {
    files: ['**/*.ts'],
    extends: [ts.configs.strictTypeChecked],
    languageOptions: { parserOptions: { projectService: true } },
    rules: {
      '@typescript-eslint/restrict-template-expressions': ['error', { allowNumber: true }],
      '@typescript-eslint/no-confusing-void-expression': 'off',
      '@typescript-eslint/no-invalid-void-type': 'off',
      // Fastify handlers are async even if they do not use `await`, so that they can return their reply or throw an
      // error.
      '@typescript-eslint/require-await': 'off',
      '@typescript-eslint/no-unnecessary-type-parameters': 'off'
    }
  },
  {
    files: ['plugin/**/*.ts'],
    rules: { 'max-lines-per-function': ['error', 40], 'max-lines': ['error', 400], complexity: ['error', 10] }
  },
  {
    files: ['test/**/*.ts'],
    rules: {
      '@typescript-eslint/unbound-method': 'off',
      'no-restricted-syntax': [
        'error',
        {
          selector:
            'Program > ExpressionStatement[expression.operator=void] ~ VariableDeclaration > VariableDeclarator > AwaitExpression',
          message: 'Move this await above the first test: tap ends a file that is idle between two tests.'
        }
      ]
    }
  },
  {
    files: ['**/*.{js,mjs,cjs}'],
    languageOptions: { globals: { process: 'readonly', console: 'readonly', URL: 'readonly' } }
  },
  {
    files: ['examples/*/public/*.js'],
    languageOptions: { globals: { document: 'readonly' } }
  }
)
